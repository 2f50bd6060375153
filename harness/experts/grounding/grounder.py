"""Objects found by asking a multimodal model for their boxes."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.experts.grounding.answers import CONVENTIONS, Grounding, read_boxes
from harness.experts.judge.rubric import Rubric
from harness.plugin_values import one_each
from harness.protocols import ModelJudge
from harness.settings import choice
from harness.types import Answer, Box, Question

if TYPE_CHECKING:
    from PIL.Image import Image

DATA_FILES = ("questions/*.txt",)  # count in the keys of stages
QUESTIONS = Path(__file__).parent / "questions"


class MllmGrounder:
    """Asks one question per pair of image and name, and a second time if the answer is unreadable.

    Args:
        model: a judge that answers, so that one model serves both purposes.
        convention: the coordinates of its boxes, one of `CONVENTIONS`.
        question: a file in `questions/` beside this module, or the path of your own, with `$name` in it.
        min_pixels: the smallest area of an image after the model's processor; the server's must be equal.
        max_pixels: the largest area; likewise.

    Raises:
        ValueError: a setting has a value that is not allowed, the convention is that of other models, or the
            judge is no model.
    """

    def __init__(
        self, *, model: Any, convention: str, question: str, min_pixels: int, max_pixels: int
    ) -> None:
        choice("grounder.convention", convention, list(CONVENTIONS))
        if not isinstance(model, ModelJudge):
            raise ValueError(
                f"grounder=mllm asks the judge for boxes, and {type(model).__name__} is no model that could"
                " give them: take judge=server (or qwen2_5_vl, qwen3_vl, openai), or grounder=oracle"
            )
        family = _family(model.model) or convention
        if family != convention:
            raise ValueError(
                f"grounder.convention={convention}, but {model.model} gives boxes as {family}:"
                f" take grounder.convention={family}"
            )
        limits = {"min_pixels": min_pixels, "max_pixels": max_pixels}
        if CONVENTIONS[convention].factor is not None and model.limits not in (None, limits):
            raise ValueError(
                f"the judge resizes images to {model.limits}, but the grounder reads boxes as if to {limits}:"
                " give the grounder the same"
            )
        self._model, self._convention, self._limits = model, convention, limits
        self._warned: set[str] = set()
        self._question = Rubric(question, "name", folder=QUESTIONS)
        self.external = self._question.external

    def locate(self, images: Sequence[Image], names: Sequence[str]) -> list[list[Box] | None]:
        """The model's boxes; [] if it says that the object is absent, None if its answers are unreadable."""
        questions = [
            Question(
                kind="grounding",
                text=self._question.fill({"name": name}),
                lead=self._question.lead,
                images=(image,),
                scored=False,
            )
            for image, name in zip(images, names, strict=True)
        ]
        answers = self._ask(questions)
        groundings = [self._read(*pair) for pair in zip(questions, answers, strict=True)]
        retries = []
        for index, grounding in enumerate(groundings):
            if grounding.status == "unreadable" and answers[index].failure is None:
                retries.append(index)
        if retries:
            new_answers = self._ask([replace(questions[index], attempt=1) for index in retries])
            for index, answer in zip(retries, new_answers, strict=True):
                groundings[index] = self._read(questions[index], answer)
        self._report(groundings)
        return [_boxes(grounding) for grounding in groundings]

    def _report(self, groundings: Sequence[Grounding]) -> None:
        """Says once what is wrong with answers: the boxes alone do not show it."""
        unreadable = [grounding.reason for grounding in groundings if grounding.status == "unreadable"]
        if unreadable:
            self._warn_once(
                f"could not read {len(unreadable)} of {len(groundings)} answers; the first: {unreadable[0]}"
            )
        swapped = sum(grounding.swapped for grounding in groundings)
        if swapped:
            self._warn_once(
                f"put the corners of {swapped} boxes in order: they may be in another convention than"
                f" grounder.convention={self._convention}"
            )

    def _warn_once(self, message: str) -> None:
        kind = message.split()[0]
        if kind not in self._warned:
            self._warned.add(kind)
            print(f"grounder of {self._model.model} {message}", file=sys.stderr, flush=True)

    def _ask(self, questions: Sequence[Question]) -> list[Answer]:
        answers = self._model.ask(questions) if questions else []
        return one_each(answers, len(questions), f"judge {type(self._model).__name__}", "answers", "question")

    def _read(self, question: Question, answer: Answer) -> Grounding:
        if answer.failure is not None:
            return Grounding(status="unreadable", reason=answer.failure)
        return read_boxes(
            answer.text,
            self._convention,
            question.images[0].size,
            **self._limits,
            finish_reason=answer.finish,
        )


def _family(model: str) -> str | None:
    """The convention whose family the model's name belongs to, if any."""
    for name, convention in CONVENTIONS.items():
        if re.search(convention.models, model, re.IGNORECASE):
            return name
    return None


def _boxes(grounding: Grounding) -> list[Box] | None:
    if grounding.status == "unreadable":
        return None
    return [Box(*map(round, corners)) for corners in grounding.boxes]
