"""The published files of GenEval: the prompts with their facts, and the names of the 80 classes of its
detector.

`evaluation_metadata.jsonl` holds one JSON object per line: `tag`, `prompt`, `include` and, for counting,
`exclude`. `include` lists `class`, `count` and, where the prompt names them, `color` and `position`
([relation, index of the entry of `include` that it refers to]). The index of a line, from 0, is the
number of its folder in the official layout.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from harness.files import parse_json, read_user_text

TAGS = (
    "single_object",
    "two_object",
    "counting",
    "colors",
    "position",
    "color_attr",
)  # in the order of the file
DATA_FILES = ("sources.json",)  # count in the keys of stages
COLORS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white")
RELATIONS = ("left of", "right of", "above", "below")
METADATA, PROMPTS, NAMES = "evaluation_metadata.jsonl", "generation_prompts.txt", "object_names.txt"
GET = (
    f"fetch it with `python -m harness.fetch geneval`, or set GENEVAL_DIR to a folder with {METADATA} "
    f"and {NAMES} as they were published"
)

Line = Mapping[str, Any]  # what one line of the metadata holds


@cache
def sums() -> dict[str, str]:
    """Name -> SHA-256, of the files as they were published."""
    return json.loads(Path(__file__).with_name("sources.json").read_text(encoding="utf-8"))


def read_names(root: Path) -> tuple[str, ...]:
    """The names of the 80 classes, spelled as prompts spell them; a name's place is the detector's number
    of the class (COCO's order).

    Raises:
        ValueError: the file is missing, or does not hold the published names in their order.
    """
    names = tuple(line.strip() for line in _text(root / NAMES).splitlines())
    if hashlib.sha256("".join(f"{name}\n" for name in names).encode()).hexdigest() != sums()[NAMES]:
        raise ValueError(
            f"{root / NAMES} does not hold the 80 published names in their order, which says what each "
            f"class is: {GET}"
        )
    return names


def read_metadata(root: Path) -> list[Line]:
    """What every prompt asks for, in the order of the file.

    The published file has 553 lines; one of your own may have others (`metadata_version` tells them apart).

    Raises:
        ValueError: a file is missing, or a line is none that GenEval could judge; names it.
    """
    names, lines = read_names(root), []
    file = root / METADATA
    said: dict[str, int] = {}
    for number, text in enumerate(_text(file).removesuffix("\n").split("\n"), start=1):
        try:
            line = parse_json(text)
            _check_line(line, names)
        except ValueError as error:
            raise ValueError(f"line {number} of {file} is no prompt of GenEval: {error}") from None
        if (earlier := said.setdefault(line["prompt"], number)) != number:
            raise ValueError(
                f"lines {earlier} and {number} of {file} both have the prompt {line['prompt']!r}: keep one"
            )
        lines.append(line)
    return lines


def metadata_version(root: Path) -> str:
    """Which evaluation_metadata.jsonl the folder holds, by its SHA-256: "published", or "unknown, sha256
    1234abcd...".

    Raises:
        ValueError: it is missing.
    """
    digest = hashlib.sha256(
        _text(root / METADATA).encode()
    ).hexdigest()  # of the text: line ends do not count
    return "published" if digest == sums()[METADATA] else f"unknown, sha256 {digest[:8]}..."


def _check_line(line: Any, names: Collection[str]) -> None:
    if not isinstance(line, dict):
        raise ValueError("it is no JSON object")
    if line.get("tag") not in TAGS:
        raise ValueError(f"its tag is {line.get('tag')!r}, and not one of {', '.join(TAGS)}")
    if not isinstance(line.get("prompt"), str) or not line["prompt"].strip():
        raise ValueError(f"its prompt is {line.get('prompt')!r}, and not a text")
    include, exclude = line.get("include"), line.get("exclude", [])
    if not isinstance(include, list) or not include or not isinstance(exclude, list):
        raise ValueError("its include must be a list of at least one entry, and its exclude a list")
    for place, entry in enumerate([*include, *exclude]):
        _check_entry(entry, names)
        if "position" in entry:
            _check_position(entry["position"], place)


def _check_entry(entry: Any, names: Collection[str]) -> None:
    if not isinstance(entry, dict) or entry.get("class") not in names:
        raise ValueError(f"the entry {entry!r} has no class of {NAMES}")
    count = entry.get("count")
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise ValueError(f"the count of {entry['class']} is {count!r}, and not a whole number from 1")
    if "color" in entry and entry["color"] not in COLORS:
        raise ValueError(
            f"the color of {entry['class']} is {entry['color']!r}, and not one of {', '.join(COLORS)}"
        )


def _check_position(position: Any, place: int) -> None:
    """A position is to an entry that stands before its own, whose place is given."""
    fine = (
        isinstance(position, list) and len(position) == 2 and type(position[1]) is int
    )  # true is an int too
    if not fine or position[0] not in RELATIONS or position[1] not in range(place):
        raise ValueError(
            f"the position {position!r} is not one of {', '.join(RELATIONS)} with the place of an "
            "earlier entry, from 0"
        )


def _text(file: Path) -> str:
    if not file.is_file():
        raise ValueError(f"{file.parent} lacks {file.name}: {GET}")
    return read_user_text(file, remedy="Or take the file as it was published")
