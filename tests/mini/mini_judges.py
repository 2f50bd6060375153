"""Judges of chains that count what they are asked, stop halfway, or answer nonsense."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.experts.judge.usage import Price, Usage
from harness.types import Answer, Question


class Counted:
    """Prefers the longer of two chains, as a server with a price would: 100 tokens in, 10 out a question.

    Args:
        max_tokens: the limit of an answer, for the estimate alone.
        unreadable: every so many-th question is answered with nonsense; 0: none.
        stop_after: the process kills itself before it is asked more questions, once; 0: never.
        flag: a file that says that it has done so.
    """

    def __init__(
        self, *, max_tokens: int = 20, unreadable: int = 0, stop_after: int = 0, flag: str = ""
    ) -> None:
        self.price = Price(input=10, output=100)
        self._unreadable, self._stop_after, self._flag = unreadable, stop_after, flag
        self._asked = 0

    @property
    def usage(self) -> Usage:
        return Usage(
            requests=self._asked,
            counted=self._asked,
            tokens_in=100 * self._asked,
            tokens_out=10 * self._asked,
        )

    def ask(self, questions: Sequence[Question]) -> list[Answer]:
        if self._stop_after and self._asked >= self._stop_after and not Path(self._flag).exists():
            Path(self._flag).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        self._asked += len(questions)
        return [Answer(text=self._answer(question.facts)) for question in questions]

    def _answer(self, facts: Any) -> str:
        first, second = facts["first"].text, facts["second"].text
        place = int(facts["prompt"].id.rpartition("-")[2])
        if self._unreadable and place % self._unreadable == 0:
            return "I cannot say."
        if len(first) == len(second):
            return "Selected: tie"
        return f"Selected: {'A' if len(first) > len(second) else 'B'}"


class First:
    """Always selects the chain that it sees first."""

    def ask(self, questions: Sequence[Question]) -> list[Answer]:
        return [Answer(text='{"selected": "A"}') for _ in questions]
