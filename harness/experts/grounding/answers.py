"""Reading where a model says that something is: boxes in thousandths of the image, absence, or neither.

Models answer in different coordinates, each family in its own `CONVENTIONS`. Absent is a finding (IoU 0), unreadable is none
(unscored): an answer in another scale than expected is never guessed at.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any, Literal

from harness.experts import relaxed_json
from harness.experts.judge.answers import REFUSAL, cleaned
from harness.types import CANVAS

Corners = tuple[float, float, float, float]


@dataclass(frozen=True, kw_only=True)
class Convention:
    """Coordinates of a family: thousandths, or with `factor` pixels of the image as resized to multiples of it."""

    models: str  # the names of its models, a regular expression
    factor: int | None = None


CONVENTIONS = {
    "qwen2_5_vl": Convention(models=r"qwen-?2[._]5-?_?vl", factor=28),
    "qwen3_vl": Convention(models=r"qwen-?3-?_?vl"),
    "qwen2_vl": Convention(models=r"qwen-?2-?_?vl"),
    "relative_1000": Convention(models=r"(?!)"),  # whoever is told to answer so
}
SLACK = 20  # thousandths that a box may reach outside the image; beyond, it is in another scale


@dataclass(frozen=True, kw_only=True)
class Grounding:
    """`boxes` (x1, y1, x2, y2 in thousandths) with a label each, as answered; `reason` where it is unreadable."""

    status: Literal["ok", "absent", "unreadable"]
    boxes: tuple[Corners, ...] = ()
    labels: tuple[str | None, ...] = ()
    reason: str | None = None


def seen_size(width: int, height: int, *, factor: int, min_pixels: int, max_pixels: int) -> tuple[int, int]:
    """Width and height of an image as Qwen's processors resize it: sides are multiples of `factor`, the area within the limits."""
    seen_height, seen_width = (round(side / factor) * factor for side in (height, width))
    if seen_height * seen_width > max_pixels:
        shrink = math.sqrt(height * width / max_pixels)
        seen_height, seen_width = (
            max(factor, math.floor(side / shrink / factor) * factor) for side in (height, width)
        )
    elif seen_height * seen_width < min_pixels:
        grow = math.sqrt(min_pixels / (height * width))
        seen_height, seen_width = (math.ceil(side * grow / factor) * factor for side in (height, width))
    return seen_width, seen_height


def read_boxes(
    raw: str | None,
    convention: str,
    image_size: tuple[int, int],
    *,
    min_pixels: int,
    max_pixels: int,
    finish_reason: str = "stop",
) -> Grounding:
    """The boxes in an answer.

    Args:
        raw: the answer as it came; None where none came.
        convention: one of `CONVENTIONS`.
        image_size: width and height of the image that was sent, pixels.
        min_pixels: the smallest area that the model's processor leaves an image.
        max_pixels: the largest.
        finish_reason: as servers say it; what was cut at the token limit counts as far as it is whole.
    """
    if finish_reason in ("content_filter", "refusal"):
        return _unreadable(f"the answer ended with {finish_reason!r}")
    text = cleaned(raw or "")
    if not text.strip():
        return _unreadable("the answer is empty")
    if "<think>" in text:
        return _unreadable("the answer never ends its thinking")
    found = _Found()
    for value in relaxed_json.values(text):
        _collect(value, found)
    if not found.boxes:
        _collect_pairs(text, found)
    factor = CONVENTIONS[convention].factor
    scale = (
        (CANVAS, CANVAS)
        if factor is None
        else seen_size(*image_size, factor=factor, min_pixels=min_pixels, max_pixels=max_pixels)
    )
    boxes = dict.fromkeys(
        (box, label) for written, label in found.boxes if (box := _in_thousandths(written, scale)) is not None
    )
    if boxes:
        return Grounding(
            status="ok", boxes=tuple(box for box, _ in boxes), labels=tuple(label for _, label in boxes)
        )
    if found.boxes:
        return _unreadable("its boxes are empty or lie far outside the image")
    if found.broken:
        return _unreadable("it holds something else than boxes of four numbers")
    if found.absent or (_ABSENT.search(text) and not REFUSAL.search(text)):
        return Grounding(status="absent")
    return _unreadable("it holds no box and does not say that there is none")


def _unreadable(reason: str) -> Grounding:
    return Grounding(status="unreadable", reason=reason)


@dataclass
class _Found:
    """What an answer holds: `boxes` as written, signs that there is nothing to be found, and what is no box though it should be."""

    boxes: list[tuple[list[float], str | None]] = field(default_factory=list)
    absent: bool = False
    broken: bool = False

    def add(self, box: list[float], label: str | None) -> None:
        if any(box):
            self.boxes.append((box, label))
        else:
            self.absent = True


_BOX_KEYS = {"bbox_2d", "bbox2d", "bbox", "box", "bounding_box"}
_LABEL_KEYS = ("label", "name", "object", "class")
_PLURALS = {
    "bboxes_2d",
    "bboxes",
    "boxes",
    "bounding_boxes",
    "objects",
    "detections",
    "results",
    "answer",
    "items",
}  # no labels
_NAMED = (
    ("x1", "y1", "x2", "y2"),
    ("xmin", "ymin", "xmax", "ymax"),
    ("x_min", "y_min", "x_max", "y_max"),
    ("left", "top", "right", "bottom"),
)
_NUMBER = re.compile(r"(?<![\w.])[-+]?(?:[0-9]++(?:\.[0-9]*+)?|\.[0-9]++)(?![\w.])")
_POINT = r"\(\s*+([-+]?[0-9.]++)\s*+,\s*+([-+]?[0-9.]++)\s*+\)"
_PAIR = re.compile(
    rf"(?:<\|object_ref_start\|>([^<>]*+)<\|object_ref_end\|>\s*+)?(?:<\|box_start\|>)?\s*+{_POINT}\s*+,?\s*+{_POINT}"
)
_ABSENT = re.compile(
    r"\bthere(?:'s| is| are| were| was) (?:no\b|not\b|none\b|nothing\b)|\b(?:is|are)(?:n't| not) (?:any|there)\b"
    r"|\bnot (?:visible|present|found|shown|seen|depicted|detected|located|there|in (?:the|this) (?:image|picture|photo|scene))\b"
    r"|\b(?:does|do)(?:n't| not) (?:contain|show|include|appear|exist|have|depict)\b|\b(?:contains|shows|has|see) no\b"
    r"|\bno\b[^.\n]{1,60}\b(?:visible|present|found|detected|shown|in (?:the|this) (?:image|picture|photo|scene))\b"
    r"|\babsent\b|\bnone\b|^\s*(?:null|n/a)\W*$",
    re.IGNORECASE,
)


def _collect(node: Any, found: _Found) -> None:
    """Adds the boxes of a JSON value, wherever in it they stand."""
    if isinstance(node, dict):
        _collect_object(node, found)
    elif isinstance(node, list):
        box = None if isinstance(node, relaxed_json.OpenList) else _four(node)
        if box is not None:
            found.add(box, None)
        elif not node:
            found.absent |= not isinstance(node, relaxed_json.OpenList)
        else:
            found.broken |= any(_number(entry) is not None for entry in node)
            for entry in node:
                _collect(entry, found)


def _collect_object(node: dict[str, Any], found: _Found) -> None:
    members = [(key, key.strip().lower().replace(" ", "_"), value) for key, value in node.items()]
    if isinstance(node, relaxed_json.OpenObject) and node.cut:
        members.pop()
    elif not isinstance(node, relaxed_json.OpenObject) and (corners := _named(node)) is not None:
        found.add(corners, _label(members))
        return
    has_box = any(name in _BOX_KEYS for _, name, _ in members)
    for key, name, value in members:
        if name in _BOX_KEYS:
            _take(value, _label(members), found)
        elif name in _LABEL_KEYS and not isinstance(value, dict | list):
            continue
        elif isinstance(value, list) and not any(isinstance(entry, dict) for entry in value):
            if not has_box:
                _take(value, None if name in _PLURALS else key.strip(), found)
        elif value is None:
            found.absent |= not has_box
        else:
            _collect(value, found)


def _take(value: Any, label: str | None, found: _Found) -> None:
    """Adds what stands where a box should: one box, several, none, or something else."""
    closed = not isinstance(value, relaxed_json.OpenList | relaxed_json.OpenObject)
    if closed and (box := _box(value)) is not None:
        found.add(box, label)
    elif isinstance(value, list) and value and all(isinstance(entry, list | dict | str) for entry in value):
        for entry in value:
            _take(entry, label, found)
    elif closed and (value is None or (isinstance(value, list | dict | str) and _is_empty(value))):
        found.absent = True
    else:
        found.broken = True


def _is_empty(value: list[Any] | dict[str, Any] | str) -> bool:
    if isinstance(value, str):
        return value.strip().lower() in ("", "none", "null", "n/a")
    return not value or (isinstance(value, list) and all(entry is None for entry in value))


def _box(value: Any) -> list[float] | None:
    """Four numbers out of a list, a text or named corners; None for anything else."""
    if isinstance(value, str):
        numbers = _NUMBER.findall(value)
        return [_as_number(number) for number in numbers] if len(numbers) == 4 else None
    if isinstance(value, dict):
        return _named(value)
    return _four(value) if isinstance(value, list) else None


def _four(values: list[Any]) -> list[float] | None:
    """Four numbers, or two corners of two."""
    if len(values) == 2 and all(isinstance(corner, list) and len(corner) == 2 for corner in values):
        values = [*values[0], *values[1]]
    numbers = [number for value in values if (number := _number(value)) is not None]
    return numbers if len(numbers) == len(values) == 4 else None


def _named(node: dict[str, Any]) -> list[float] | None:
    lower = {key.strip().lower(): value for key, value in node.items()}
    for names in _NAMED:
        if all(name in lower for name in names):
            return _four([lower[name] for name in names])
    return None


def _label(members: list[tuple[str, str, Any]]) -> str | None:
    labels = {
        name: value.strip() for _, name, value in members if name in _LABEL_KEYS and isinstance(value, str)
    }
    return next((labels[name] for name in _LABEL_KEYS if name in labels), None)


def _number(value: Any) -> float | None:
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        return _as_number(value.strip())
    return (
        value
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        else None
    )


def _as_number(digits: str) -> float:
    return int(digits) if len(digits) < 19 and "." not in digits else float(digits)


def _collect_pairs(text: str, found: _Found) -> None:
    """Boxes written (x1,y1),(x2,y2), with Qwen2-VL's markup around them or without."""
    label = None
    for match in _PAIR.finditer(text):
        label = match.group(1).strip() if match.group(1) else label
        numbers = [_number(digits) for digits in match.groups()[1:]]
        if all(number is not None for number in numbers):
            found.add([number for number in numbers if number is not None], label)


def _in_thousandths(box: list[float], scale: tuple[int, int]) -> Corners | None:
    """The box in thousandths, in order and within the image; None if it has no area or is in another scale."""
    if all(0 <= value <= 1 for value in box) and not all(isinstance(value, int) for value in box):
        scale = (1, 1)
    left, top, right, bottom = (
        value * CANVAS / side for value, side in zip(box, (*scale, *scale), strict=True)
    )
    if not all(-SLACK <= value <= CANVAS + SLACK for value in (left, top, right, bottom)):
        return None
    x1, x2 = sorted(min(max(value, 0.0), float(CANVAS)) for value in (left, right))
    y1, y2 = sorted(min(max(value, 0.0), float(CANVAS)) for value in (top, bottom))
    return (x1, y1, x2, y2) if x2 > x1 and y2 > y1 else None
