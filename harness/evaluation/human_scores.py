"""Scores that people gave to images, read from a file of JSON lines.

A row names an image by its prompt's id and its number among the images of this prompt, from 0, as
`samples.jsonl` and `scores.jsonl` do. Its `score` is a number on any scale, or the list of several raters'
numbers, which are averaged:

    {"prompt_id": "color/0000", "number": 0, "score": [4, 5, 3]}
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from harness.files import read_user_rows
from harness.names import nearest
from harness.settings import whole_number
from harness.types import Prompt

KIND = 'a score of an image, such as {"prompt_id": "color/0000", "number": 0, "score": 4}'
Image = tuple[str, int]  # prompt id and number


@dataclass(frozen=True)
class HumanScores:
    """The mean score of every image in a file, and the line where it stands."""

    file: Path
    score_by_image: Mapping[Image, float]
    line_by_image: Mapping[Image, int]

    def of(self, prompt: Prompt) -> float | None:
        """Return the score of the image `prompt.number` of a prompt, None where the file has none."""
        return self.score_by_image.get((prompt.id, prompt.number))

    def check(self, prompts: Sequence[Prompt], images_per_prompt: int, *, allow_partial: bool) -> None:
        """Check that the scores belong to these images.

        Raises:
            ValueError: a row names another image, or an image has no score without `allow_partial`.
        """
        numbers = range(images_per_prompt)
        ids = {prompt.id for prompt in prompts}
        for (prompt_id, number), line in self.line_by_image.items():
            where = f"evaluation.agreement.reference: line {line} of {self.file}"
            if prompt_id not in ids:
                near = nearest(prompt_id, ids)
                raise ValueError(
                    f"{where} has prompt_id {prompt_id!r}, and evaluation.split has no such prompt. Did you"
                    f" mean {near or next(iter(ids))!r}?"
                )
            if number not in numbers:
                raise ValueError(
                    f"{where} has number {number}, and a prompt has {images_per_prompt} images"
                    f" (evaluation.images_per_prompt): give 0 to {images_per_prompt - 1}"
                )
        count, total = len(self.score_by_image), len(ids) * images_per_prompt
        if count < total and not allow_partial:
            raise ValueError(
                f"evaluation.agreement.reference: {self.file} has scores of {count} of {total} images. Add"
                " the others, or measure these alone with evaluation.agreement.allow_partial=true"
            )


def read_human_scores(file: Path) -> HumanScores:
    """Return the scores in a file.

    Raises:
        ValueError: it cannot be read, a row is no score, an image has two rows, or all scores are equal.
    """
    score_by_image: dict[Image, float] = {}
    line_by_image: dict[Image, int] = {}
    try:
        for line, (image, score) in read_user_rows(file, _read_row, kind=KIND):
            if image in score_by_image:
                raise ValueError(
                    f"lines {line_by_image[image]} and {line} of {file} are both of image {image[1]} of"
                    f' prompt {image[0]!r}: keep one. Write several raters as a list, "score": [4, 5]'
                )
            score_by_image[image], line_by_image[image] = score, line
    except OSError as error:
        raise ValueError(f"{file} cannot be read: {error.strerror}. Give a file of JSON lines") from error
    if len(set(score_by_image.values())) < 2:
        raise ValueError(
            f"{file} has {len(score_by_image)} images and no two different scores, so no order that a judge"
            " could agree with: give scores that differ"
        )
    return HumanScores(file, score_by_image, line_by_image)


def _read_row(row: Mapping[str, Any]) -> tuple[Image, float]:
    prompt_id, number, score = row["prompt_id"], row.get("number", 0), row["score"]
    if not isinstance(prompt_id, str):
        raise ValueError(f"prompt_id {prompt_id!r} is no text")
    raters = score if isinstance(score, list) else [score]
    if not raters or not all(map(_is_number, raters)):
        raise ValueError(f"score {score!r} is neither a number nor a list of numbers")
    return (prompt_id, whole_number("number", number, least=0)), fmean(raters)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
