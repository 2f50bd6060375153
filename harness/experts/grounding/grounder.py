"""Objects found by asking a multimodal model for their boxes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.experts.grounding.answers import CONVENTIONS, Grounding, read_boxes
from harness.experts.judge.rubric import Rubric
from harness.protocols import ModelJudge
from harness.settings import choice
from harness.types import Answer, Box, Question

if TYPE_CHECKING:
    from PIL.Image import Image

QUESTIONS = Path(__file__).parent / "questions"


class MllmGrounder:
    """Asks one question for each distinct pair of image and name; what is unreadable is asked for once more.

    Args:
        model: whom to ask: a judge, so that one model serves both.
        convention: how its boxes are meant, one of `CONVENTIONS`.
        question: a file of `harness/experts/questions`, or the path of one's own, with `$name` in it.
        min_pixels: the smallest area that the model's image processor leaves an image; the server must have the same.
        max_pixels: the largest.

    Raises:
        ValueError: a setting that cannot be, a convention that is not this model's, or a judge that is no model.
    """

    def __init__(
        self, *, model: Any, convention: str, question: str, min_pixels: int, max_pixels: int
    ) -> None:
        choice("grounder.convention", convention, list(CONVENTIONS))
        if not isinstance(model, ModelJudge):
            raise ValueError(
                f"grounder=mllm asks the judge for boxes, and {type(model).__name__} is no model that could give them: "
                "take judge=server (or qwen2_5_vl, qwen3_vl, openai), or grounder=oracle"
            )
        named = model.model
        family = next(
            (name for name, each in CONVENTIONS.items() if re.search(each.models, named, re.IGNORECASE)),
            convention,
        )
        if family != convention:
            raise ValueError(
                f"grounder.convention={convention}, but {named} gives boxes as {family}: take grounder.convention={family}"
            )
        limits = {"min_pixels": min_pixels, "max_pixels": max_pixels}
        if CONVENTIONS[convention].factor is not None and model.limits not in (None, limits):
            raise ValueError(
                f"the judge sees images within {model.limits}, and boxes are read as if within {limits}: give the grounder the same"
            )
        self._model, self._convention, self._limits = model, convention, limits
        self._question = Rubric(question, "name", folder=QUESTIONS)

    def locate(self, images: Sequence[Image], names: Sequence[str]) -> list[list[Box] | None]:
        """The boxes as the model gives them; [] if it says that the object is not there, None where its answer says neither."""
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
        answers = self._model.ask(questions) if questions else []
        found = [self._read(question, answer) for question, answer in zip(questions, answers, strict=True)]
        again = [
            row
            for row, each in enumerate(found)
            if each.status == "unreadable" and answers[row].failure is None
        ]
        if again:
            repeated = self._model.ask([replace(questions[row], attempt=1) for row in again])
            for row, answer in zip(again, repeated, strict=True):
                found[row] = self._read(questions[row], answer)
        return [
            None if each.status == "unreadable" else [Box(*map(round, corners)) for corners in each.boxes]
            for each in found
        ]

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
