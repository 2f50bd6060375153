"""Result files of the official programs of T2I-CompBench, written and read: `vqa_result.json` and the
text with the mean.

The files of a category are below `CATEGORY/`, or directly in the folder where it is the only category,
beside its `samples/`. Image k of prompt i (its index in the file of the category) has the `question_id` P
* i + k, for P images per prompt.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.files import read_user_text, writing

RESULT = "vqa_result.json"
SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class Form:
    """How a program writes: its folder, the file of the mean and its text, and whether answers are texts
    with 4 decimals.
    """

    folder: str
    summary: tuple[str, str] | None
    decimals: bool = False
    least: float = 0.0


FORMS = {  # measure -> form
    "blip_vqa": Form(
        folder="annotation_blip", summary=("blip_vqa_score.txt", "BLIP-VQA score:{mean}"), decimals=True
    ),
    "unidet_2d": Form(
        folder="labels/annotation_obj_detection_2d", summary=("avg_score.txt", "score avg:{mean}")
    ),
    "unidet_3d": Form(
        folder="labels/annotation_obj_detection_3d", summary=("avg_result.txt", "avg score is {mean}")
    ),
    "numeracy": Form(folder="annotation_num", summary=("score.txt", "total:{total} num:{count} avg:{mean}")),
    "clip": Form(folder="annotation_clip", summary=None, least=-1.0),
    "three_in_one": Form(folder="annotation_3_in_1", summary=("vqa_score.txt", "score avg:{mean}")),
}


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a program says of a category's `count` images: question_id -> value, None where it is unscored."""

    category: str
    measure: str
    count: int
    values: Mapping[int, float | None]


def write(folder: Path, results: Sequence[Result]) -> list[str]:
    """Writes every result that is complete: the official form cannot say that an image is unscored.

    Returns:
        For each result that was not written, which it is and why.

    Raises:
        OSError: a file cannot be written.
    """
    alone = len({result.category for result in results}) == 1
    left_out = []
    for result in results:
        lacking = [one for one in range(result.count) if result.values.get(one) is None]
        if lacking:
            left_out.append(
                f"{result.category}, {result.measure}: {RESULT} is not written, {len(lacking)} of "
                f"{result.count} images are unscored "
                f"(question_id {_some(lacking)})"
            )
            continue
        home = folder if alone else folder / result.category
        _write(home / FORMS[result.measure].folder, FORMS[result.measure], result)
    return left_out


def read(folder: Path, category: str, measure: str, *, count: int, alone: bool) -> dict[int, float] | None:
    """question_id -> value, from the result file of a measure; None where there is none.

    Args:
        folder: where the categories' folders lie.
        category: whose images they are.
        measure: a key of `FORMS`.
        count: how many images there are; each must have its answer.
        alone: the category is the only one that is asked for, so that its files may lie directly in the
            folder.

    Raises:
        ValueError: the file is no such file, or not of so many images; says what is wrong.
    """
    form = FORMS[measure]
    for home in (folder / category, *([folder] if alone else [])):
        if (file := home / form.folder / RESULT).is_file():
            try:
                return _read(file, form, count)
            except ValueError as error:
                raise ValueError(
                    f"{file} is no result of {measure} for {count} images of {category}: {error}"
                ) from None
    return None


def _write(place: Path, form: Form, result: Result) -> None:
    values = [result.values[one] for one in range(result.count)]
    answers = [f"{value:.4f}" if form.decimals else value for value in values]
    _write_text(
        place / RESULT,
        json.dumps([{"question_id": one, "answer": answer} for one, answer in enumerate(answers)]),
    )
    if form.summary:
        name, text = form.summary
        total = math.fsum(float(answer) for answer in answers if answer is not None)
        _write_text(place / name, text.format(total=total, count=result.count, mean=total / result.count))


def _write_text(file: Path, text: str) -> None:
    with writing(file) as new:
        new.write_text(text, encoding="utf-8")


def _read(file: Path, form: Form, count: int) -> dict[int, float]:
    rows = json.loads(read_user_text(file))
    if not isinstance(rows, list):
        raise ValueError("it is no list of {question_id, answer}")
    values: dict[int, float] = {}
    for place, row in enumerate(rows):
        if not isinstance(row, dict) or not {"question_id", "answer"} <= set(row):
            raise ValueError(f"entry {place} (from 0) is {row!r}, and not {{question_id, answer}}")
        one = row["question_id"]
        if not isinstance(one, int) or isinstance(one, bool):
            raise ValueError(f"entry {place} (from 0) has the question_id {one!r}, and not a whole number")
        if one in values:
            raise ValueError(f"question_id {one} stands there twice")
        values[one] = _answer(one, row["answer"], form)
    _check_complete(values, count)
    return values


def _answer(one: int, answer: Any, form: Form) -> float:
    """The number, whether it was written as one or as text."""
    try:
        value = math.nan if isinstance(answer, bool) else float(answer)
    except (TypeError, ValueError):
        value = math.nan
    if not form.least <= value <= 1:
        raise ValueError(
            f"the answer of question_id {one} is {answer!r}: it must be a number from {form.least:g} to 1"
        )
    return value


def _check_complete(values: Mapping[int, float], count: int) -> None:
    missing = [one for one in range(count) if one not in values]
    strange = sorted(one for one in values if not 0 <= one < count)
    if missing or strange:
        what = [
            f"{word} question_id {_some(ids)}"
            for word, ids in (("lacks", missing), ("has the strange", strange))
            if ids
        ]
        raise ValueError(
            f"it holds {len(values)} answers, {' and '.join(what)}: they must be 0 to {count - 1}, each once"
        )


def _some(ids: Sequence[int]) -> str:
    return ", ".join(map(str, ids[:SHOWN])) + (", ..." if len(ids) > SHOWN else "")
