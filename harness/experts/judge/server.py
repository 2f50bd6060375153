"""A judge behind an OpenAI-compatible server: vLLM, SGLang, `transformers serve`, OpenAI."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from typing import Any

from harness.experts.judge.cache import AnswerCache, ask_each_once
from harness.experts.judge.connection import Connection, Unanswered
from harness.experts.judge.expected import LEAST_MASS, expected_score
from harness.experts.judge.flavors import (
    FLAVOURS,
    TOP_LOGPROBS,
    continued,
    first_digit,
    logprobs,
    messages,
    read_answer,
)
from harness.protocols import ModelJudge
from harness.settings import choice, number, whole_number
from harness.types import Answer, Question

PATH = "/chat/completions"
ONE_MATTERS = 0.02  # probability of a 1 from which it is worth a request to tell it from 10
LOGPROBS = {"logprobs": True, "top_logprobs": TOP_LOGPROBS}
SCORES = ("text", "expected")


def check_settings(score: str, max_tokens: int, retry_temperature: float) -> None:
    """Of every judge that is a model.

    Raises:
        ValueError: names the one that cannot be.
    """
    choice("judge.score", score, SCORES)
    whole_number("judge.max_tokens", max_tokens)
    number("judge.retry_temperature", retry_temperature, above=0, most=2)


class ServerJudge(ModelJudge):
    """Asks a served model; many requests at a time, equal questions once.

    Args:
        model: the name under which the server has it.
        flavour: what kind of server it is, one of `FLAVOURS`: decides which fields are sent.
        score: `text`: the score that the model writes; `expected`: the mean over its own probabilities of 0 to 10, from one token.
        max_tokens: of an answer.
        retry_temperature: of a question that is asked again; the first time it is 0.
        serving: how it is reached, which changes no answer: the settings of `Connection`, and `cache`, a folder for answers or null.

    Raises:
        ValueError: a setting that cannot be.
    """

    def __init__(
        self,
        *,
        model: str,
        flavour: str,
        score: str,
        max_tokens: int,
        retry_temperature: float,
        serving: Mapping[str, Any],
    ) -> None:
        choice("judge.flavour", flavour, list(FLAVOURS))
        check_settings(score, max_tokens, retry_temperature)
        if score == "expected" and FLAVOURS[flavour].constrained is None:
            raise ValueError(
                f"judge.score=expected: a {flavour} server gives no log-probs; take judge.score=text"
            )
        self.model = model
        self._flavour, self._score, self._max_tokens, self._retry_temperature = (
            FLAVOURS[flavour],
            score,
            max_tokens,
            retry_temperature,
        )
        self._settings = f"{model} {flavour} {score} {max_tokens} {retry_temperature}"
        reached = dict(serving)
        cache = reached.pop("cache", None)
        self.cache = AnswerCache(cache) if cache else None
        self._connection = Connection(**reached)
        self._told = threading.Event()

    def ask(self, questions: Sequence[Question]) -> list[Answer]:
        """One answer per question, in order; waits where the server is gone, see `Connection`.

        Raises:
            Rejected: the server refuses our requests.
            ServerGone: it did not come back.
        """
        return ask_each_once(questions, self._settings, self.cache, self._ask_all)

    def missing(self) -> list[str]:
        """That no server answers."""
        if self._connection.is_alive():
            return []
        return [
            f"no judge answers at {self._connection.url}: start its server, or name another with judge.serving.url"
        ]

    def _ask_all(self, questions: list[Question]) -> Iterator[tuple[int, Answer]]:
        """(place, answer) as they come."""
        given_up = threading.Event()
        pool = ThreadPoolExecutor(
            min(self._connection.concurrency, len(questions)), thread_name_prefix="judge"
        )
        asked = {
            pool.submit(self._ask_one, question, given_up): place for place, question in enumerate(questions)
        }
        try:
            for future in as_completed(asked):
                yield asked[future], future.result()
        finally:
            given_up.set()
            pool.shutdown(cancel_futures=True)

    def _ask_one(self, question: Question, given_up: threading.Event) -> Answer:
        weighed = self._score == "expected" and question.scored
        fields = {**(self._flavour.constrained or {}), **LOGPROBS} if weighed else {}
        try:
            content = self._connection.post(PATH, self._body(question) | fields, given_up)
            answer = read_answer(content)
            return (
                self._weighed(question, answer, content, given_up)
                if weighed and answer.failure is None
                else answer
            )
        except Unanswered as error:
            return Answer(text=None, failure=f"no answer from the server: {error}")

    def _body(self, question: Question) -> dict[str, Any]:
        again = {"temperature": self._retry_temperature, "seed": question.attempt}
        return {
            "model": self.model,
            "messages": messages(question),
            self._flavour.length: self._max_tokens,
            "top_p": 1.0,
            **(again if question.attempt else {"temperature": 0.0}),
            **self._flavour.plain,
        }

    def _weighed(
        self, question: Question, answer: Answer, content: Mapping[str, Any], given_up: threading.Event
    ) -> Answer:
        """The answer with its expected score; as it is where the server gave no probabilities."""
        places = logprobs(content)
        place = first_digit(places)
        if place is None:
            self._say_once("gives no log-probs of a score: its written scores are taken instead")
            return answer
        first = places[place][1]
        expected, mass = expected_score(first, self._after_one(question, places, place, given_up))
        if expected is None or mass < LEAST_MASS:
            return replace(
                answer, mass=mass, failure=f"the model gave scores a probability of {mass:.2f} only"
            )
        return replace(answer, expected=expected, mass=mass)

    def _after_one(
        self,
        question: Question,
        places: Sequence[tuple[str, dict[str, float]]],
        place: int,
        given_up: threading.Event,
    ) -> dict[str, float] | None:
        """The probabilities of what follows a 1; None where that is whole, or hardly matters."""
        token, first = places[place]
        if token.strip() == "1" and place + 1 < len(places):
            return places[place + 1][1]
        one = sum(probability for top, probability in first.items() if top.strip() == "1")
        whole = any(top.strip() == "10" for top in first)
        if whole or one < ONE_MATTERS or self._flavour.prefilled is None:
            return None
        body = (
            self._body(question) | LOGPROBS | continued(question, self._flavour) | {self._flavour.length: 1}
        )
        after = logprobs(self._connection.post(PATH, body, given_up))
        return after[0][1] if after else None

    def _say_once(self, message: str) -> None:
        if not self._told.is_set():
            self._told.set()
            print(f"judge {self.model} {message}", file=sys.stderr, flush=True)
