"""Result files as evaluate_images.py writes them and summary_scores.py reads them: one JSON object per
image.

    {"filename": "IMAGES/00012/samples/00003.png", "tag": ..., "prompt": ..., "correct": false,
     "reason": "expected cow>=1, found 0", "metadata": the line of the prompt as text,
     "details": class -> rows of x1, y1, x2, y2, score of the detections that counted, as text}

The folder's number is the index of the prompt in the metadata, from 0. The file's number counts the
images of a prompt.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.geneval.files import Line
from benchmarks.geneval.rules import Kept
from harness.files import parse_json, read_user_text, writing
from harness.types import Detections

RESULTS = "results.jsonl"
SHOWN = 5
LARGEST = sys.float_info.max  # NaN, infinity and integers beyond are no coordinates

Details = Mapping[
    str, Sequence[Sequence[float]]
]  # class -> x1, y1, x2, y2, score of each object, by falling score


@dataclass(frozen=True, kw_only=True)
class Result:
    """Whether an image is right, and the reason if not. `metadata` is the line of its prompt,
    `details` the detections that counted.
    """

    filename: str
    metadata: Line
    correct: bool
    reason: str
    details: Details


def filename(prompt: int, number: int) -> str:
    """Where the official generator puts image `number` of a prompt, named by its place in the metadata."""
    return f"{prompt:05d}/samples/{number:05d}.png"


def details(found: Detections, kept: Kept) -> dict[str, list[list[float]]]:
    """The kept objects as official results have them: float32 values, by class."""
    rows = np.array(
        [[*box, score] for box, score in zip(found.boxes, found.scores, strict=True)], dtype=np.float32
    )
    details = {}
    for label, places in kept.items():
        details[label] = [rows[place].tolist() for place in places]
    return details


def write(file: Path, results: Sequence[Result]) -> None:
    """Writes results in the official form.

    Raises:
        OSError: it cannot be written.
    """
    with writing(file) as new:
        new.write_text("".join(f"{_line(result)}\n" for result in results), encoding="ascii")


def read(file: Path, metadata: Sequence[Line], wanted: Collection[int]) -> dict[tuple[int, int], Result]:
    """The results of the wanted prompts, by the prompt's place in the metadata and the image's number, in
    this order.

    The images of a prompt are numbered again from 0, in the order of their files' numbers. Which prompt
    it is, the result itself says, whatever its folder is called; its prompt may be a rewritten one.

    Args:
        file: the result file.
        metadata: all lines (`files.read_metadata`).
        wanted: places of the prompts that are asked for; each must have its images, all the same number
            of them.

    Raises:
        ValueError: the file is missing, no such file, of other prompts, or not complete; says what is wrong.
    """
    if not file.is_file():
        raise ValueError(
            f"there is no file {file}: give the results that GenEval's evaluate_images.py has written"
        )
    places = {line["prompt"]: place for place, line in enumerate(metadata)}
    by_prompt: dict[int, dict[int, Result]] = {}
    for number, text in enumerate(read_user_text(file).split("\n"), start=1):
        if not text.strip():
            continue
        try:
            result = _read_line(text)
            own = by_prompt.setdefault(_place(result, places, metadata), {})
            if (image := _number(result.filename)) in own:
                raise ValueError(f"it is of the image that {own[image].filename} is of: keep one")
        except ValueError as error:
            raise ValueError(f"line {number} of {file} is no result of these prompts: {error}") from None
        own[image] = result
    _check_complete(file, metadata, {place: len(by_prompt.get(place, ())) for place in wanted})
    results = {}
    for place in sorted(wanted):
        for number, image in enumerate(sorted(by_prompt[place])):
            results[place, number] = by_prompt[place][image]
    return results


def _line(result: Result) -> str:
    """As pandas writes a row: without spaces, in ASCII, slashes escaped."""
    row = {
        "filename": result.filename,
        "tag": result.metadata["tag"],
        "prompt": result.metadata["prompt"],
        "correct": result.correct,
        "reason": result.reason,
        "metadata": json.dumps(result.metadata),
        "details": json.dumps(result.details),
    }
    return json.dumps(row, separators=(",", ":")).replace("/", "\\/")


def _read_line(text: str) -> Result:
    row = parse_json(text)
    texts = ("filename", "tag", "prompt", "reason", "metadata", "details")
    if not isinstance(row, dict) or not isinstance(row.get("correct"), bool):
        raise ValueError("it is no JSON object with correct true or false")
    if odd := [name for name in texts if not isinstance(row.get(name), str)]:
        raise ValueError(f"its {odd[0]} is {row.get(odd[0])!r}, and not a text")
    metadata, kept = parse_json(row["metadata"]), parse_json(row["details"])
    if not isinstance(metadata, dict) or (metadata.get("tag"), metadata.get("prompt")) != (
        row["tag"],
        row["prompt"],
    ):
        raise ValueError("its metadata are not those of its tag and prompt")
    _check_details(kept)
    return Result(
        filename=row["filename"],
        metadata=metadata,
        correct=row["correct"],
        reason=row["reason"],
        details=kept,
    )


def _check_details(kept: Any) -> None:
    groups: list[Any] = list(kept.values()) if isinstance(kept, dict) else [None]
    odd = "its details are not lists of x1, y1, x2, y2, score for each class"
    if not all(isinstance(group, list) for group in groups):
        raise ValueError(odd)
    for box in chain.from_iterable(groups):
        if not isinstance(box, list) or len(box) != 5:
            raise ValueError(odd)
    for value in chain.from_iterable(chain.from_iterable(groups)):
        if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) <= LARGEST:
            raise ValueError(f"its details hold {repr(value)[:40]}, and not numbers alone")


def _place(result: Result, places: Mapping[str, int], metadata: Sequence[Line]) -> int:
    """The place of the prompt that the result is of, or of the one that its prompt was rewritten from.

    A rewritten prompt is of the only line that has the other entries of its metadata (tag, objects).
    """
    prompt = result.metadata["prompt"]
    if prompt in places:
        if metadata[places[prompt]] != result.metadata:
            raise ValueError(
                f"{prompt!r} has other metadata here (tag, objects): the results are of another version"
            )
        return places[prompt]
    same = [place for place, line in enumerate(metadata) if _is_rewritten(result.metadata, line)]
    if len(same) != 1:
        whose = f"{len(same)} prompts" if same else "no prompt"
        raise ValueError(
            f"{prompt!r} is none of the {len(metadata)} prompts here, nor a rewritten one: its metadata has"
            f" the tag and objects of {whose}"
        )
    return same[0]


def _is_rewritten(metadata: Line, line: Line) -> bool:
    """Whether the metadata agree with a line in everything but the prompt."""
    return all(metadata.get(name) == value for name, value in line.items() if name != "prompt")


def _number(name: str) -> int:
    found = re.search(r"(?:^|[/\\])([0-9]+)\.png$", name)
    if not found:
        raise ValueError(f"its filename is {name!r}, and not .../00000.png")
    return int(found[1])


def _check_complete(file: Path, metadata: Sequence[Line], counts: Mapping[int, int]) -> None:
    """Every prompt has images, and as many as most have."""
    there = Counter(count for count in counts.values() if count)
    usual = there.most_common(1)[0][0] if there else None
    odd = [
        f"{count} of {metadata[place]['prompt']!r}"
        for place, count in sorted(counts.items())
        if count != usual
    ]
    if odd:
        shown = ", ".join(odd[:SHOWN]) + (", ..." if len(odd) > SHOWN else "")
        raise ValueError(
            f"{file} has not as many images of every prompt that is asked for: "
            f"{shown}{f'; {usual} of most' if usual else ''}. "
            "Judge all of them, or name the categories that it holds with benchmarks.categories=[...]"
        )
