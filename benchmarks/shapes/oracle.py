"""Exact experts of the shapes world, behind the same protocols as real models.

They read the prompt and the chain from the facts of a question, and images from their pixels alone.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from PIL.Image import Image

from benchmarks.shapes.detector import ShapesDetector
from benchmarks.shapes.facts import Facts
from benchmarks.shapes.grading import grade_picture, grade_semantic, grade_spatial
from benchmarks.shapes.grounding import detect_once, ground
from benchmarks.shapes.merit import compare
from benchmarks.shapes.prompts import parse_prompt
from benchmarks.shapes.scoring import fact_share, find
from harness.types import Answer, Box, Chain, Detection, Prompt, Question


class OracleJudge:
    """Grades chains, layouts and images, and answers like a real MLLM: JSON text with a `score` from 0
    to 10. Of two chains it selects A, B or tie by their merit, also where the question allows no tie.

    A judge that errs overrides `grade_image`, `grade_chain` and `select`.
    """

    def __init__(self) -> None:
        self._detector = ShapesDetector()

    @property
    def label(self) -> str:
        """What a report calls this judge."""
        return "exact judge"

    def ask(self, questions: Sequence[Question]) -> list[Answer]:
        """One answer per question: a failure where the facts it needs are missing, or the kind is none
        that it knows.
        """
        pictures = [question.images[0] for question in questions if _shows_picture(question)]
        seen = iter(detect_once(self._detector, pictures))
        answers = []
        for question in questions:
            text = self._graded(question, next(seen) if _shows_picture(question) else [])
            failure = None if text else "the oracle knows too little of this question"
            answers.append(Answer(text=text, failure=failure))
        return answers

    def grade_image(
        self, prompt: Prompt, facts: Facts, image: Image, seen: Sequence[Detection]
    ) -> tuple[Sequence[Detection], int, str]:
        """What the judge sees in the image, its grade from 0 to 10 and the reason."""
        return seen, *grade_picture(facts, seen)

    def grade_chain(self, question: Question, prompt: Prompt, facts: Facts, chain: Chain) -> tuple[int, str]:
        """The grade from 0 to 10 of a `semantic` or `spatial` question, and the reason."""
        return (grade_semantic if question.kind == "semantic" else grade_spatial)(facts, chain)

    def select(self, prompt: Prompt, facts: Facts, first: Chain, second: Chain) -> tuple[str | None, str]:
        """The better chain, `A` for the first, `B` for the second or `tie`, and the reason; None if the
        judge does not say.
        """
        return compare(facts, first, second)

    def _graded(self, question: Question, seen: Sequence[Detection]) -> str | None:
        prompt, chain = question.facts.get("prompt"), question.facts.get("chain")
        facts = Facts.read(prompt.facts) if isinstance(prompt, Prompt) else None
        if facts is None or not isinstance(prompt, Prompt):
            return None
        if _shows_picture(question):
            read, grade, reasoning = self.grade_image(prompt, facts, question.images[0], seen)
            description = ", ".join(f"a {thing.label}" for thing in read) or "nothing"
            return json.dumps(
                {
                    "description": f"The picture shows {description}.",
                    "caption": prompt.text,
                    "reasoning": reasoning,
                    "score": grade,
                }
            )
        if question.kind in ("semantic", "spatial") and isinstance(chain, Chain):
            grade, reasoning = self.grade_chain(question, prompt, facts, chain)
            return json.dumps({"reasoning": reasoning, "score": grade})
        first, second = question.facts.get("first"), question.facts.get("second")
        if question.kind == "preference" and isinstance(first, Chain) and isinstance(second, Chain):
            selected, reasoning = self.select(prompt, facts, first, second)
            return json.dumps({"reasoning": reasoning, "selected": selected})
        return None


class OracleGrounder:
    """Finds the objects of an image that match the words of a name (`red striped circle`, `round
    tile`).
    """

    label = "exact grounder"

    def __init__(self) -> None:
        self._detector = ShapesDetector()

    def locate(self, images: Sequence[Image], names: Sequence[str]) -> list[list[Box] | None]:
        """Boxes by falling confidence; [] if no object has all that the name says, or the name says
        nothing known.
        """
        return ground(self._detector, images, names)


class OracleSimilarity:
    """The share of the facts in a text that an image shows."""

    label = "exact similarity"

    def __init__(self) -> None:
        self._detector = ShapesDetector()

    def similarity(self, images: Sequence[Image], texts: Sequence[str]) -> list[float | None]:
        """In [0, 1]; None for a text that is not worded like a prompt of this world."""
        seen = detect_once(self._detector, images)
        return [_similarity(text, detections) for text, detections in zip(texts, seen, strict=True)]


def _shows_picture(question: Question) -> bool:
    return question.kind == "prompt_image" and bool(question.images)


def _similarity(text: str, seen: Sequence[Detection]) -> float | None:
    facts = parse_prompt(text)
    return None if facts is None else fact_share(facts, find(facts.objects, seen))
