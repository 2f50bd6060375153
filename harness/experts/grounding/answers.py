"""The boxes in a model's answer: in thousandths of the image, or absent, or unreadable.

Each family of models answers in its own coordinates (`CONVENTIONS`). An absent object is a result (IoU 0);
an unreadable answer is none (unscored). The scale of an answer is never guessed.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any, Literal

from harness.experts import relaxed_json
from harness.experts.judge.answers import REFUSAL, broken_off, cleaned
from harness.types import CANVAS

Corners = tuple[float, float, float, float]


@dataclass(frozen=True, kw_only=True)
class Convention:
    """The coordinates of a family of models.

    Thousandths of the image by default; with `factor`, pixels of the image resized to multiples of it.
    """

    models: str  # a regular expression for the models' names
    factor: int | None = None


CONVENTIONS = {
    "qwen2_5_vl": Convention(models=r"qwen-?2[._]5-?_?vl", factor=28),
    "qwen3_vl": Convention(models=r"qwen-?3-?_?vl"),
    "qwen2_vl": Convention(models=r"qwen-?2-?_?vl"),
    "relative_1000": Convention(models=r"(?!)"),  # for models whose prompt asks for thousandths
}
SLACK = 20  # thousandths that a box may exceed the image by; with more it is in another scale


@dataclass(frozen=True, kw_only=True)
class Grounding:
    """Boxes (x1, y1, x2, y2 in thousandths) with one label each; `reason` if the answer is unreadable."""

    status: Literal["ok", "absent", "unreadable"]
    boxes: tuple[Corners, ...] = ()
    labels: tuple[str | None, ...] = ()
    reason: str | None = None


def seen_size(width: int, height: int, *, factor: int, min_pixels: int, max_pixels: int) -> tuple[int, int]:
    """Width and height of an image after Qwen's processors.

    The sides are multiples of `factor`, and the area is within the limits.
    """
    sides = (width, height)
    seen_width, seen_height = (round(side / factor) * factor for side in sides)
    if seen_height * seen_width > max_pixels:
        shrink = math.sqrt(height * width / max_pixels)
        seen_width, seen_height = (max(factor, math.floor(side / shrink / factor) * factor) for side in sides)
    elif seen_height * seen_width < min_pixels:
        grow = math.sqrt(min_pixels / (height * width))
        seen_width, seen_height = (math.ceil(side * grow / factor) * factor for side in sides)
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
        raw: the answer as received; None if there was none.
        convention: one of `CONVENTIONS`.
        image_size: width and height in pixels of the image that was sent.
        min_pixels: the smallest area of an image after the model's processor.
        max_pixels: the largest area.
        finish_reason: the server's. The complete boxes of an answer cut at the token limit count; an answer
            that broke off for another reason is unreadable.
    """
    if (reason := broken_off(finish_reason)) is not None:
        return _unreadable(reason)
    text = cleaned(raw or "")
    if not text.strip():
        return _unreadable("the answer is empty")
    if "<think>" in text:
        return _unreadable("the answer never ends its thinking")
    content = _Content()
    for value in relaxed_json.values(text):
        _collect(value, content)
    if not content.boxes:
        _collect_pairs(text, content)
    factor = CONVENTIONS[convention].factor
    scale = (CANVAS, CANVAS)
    if factor is not None:
        scale = seen_size(*image_size, factor=factor, min_pixels=min_pixels, max_pixels=max_pixels)
    boxes: dict[tuple[Corners, str | None], None] = {}  # distinct, in order
    for numbers, label in content.boxes:
        box = _in_thousandths(numbers, scale)
        if box is not None:
            boxes[box, label] = None
    if boxes:
        return Grounding(
            status="ok", boxes=tuple(box for box, _ in boxes), labels=tuple(label for _, label in boxes)
        )
    if content.boxes:
        return _unreadable("its boxes are empty or lie far outside the image")
    if content.broken:
        return _unreadable("it holds something else than boxes of four numbers")
    if content.absent or (_ABSENT.search(text) and not REFUSAL.search(text)):
        return Grounding(status="absent")
    return _unreadable("it holds no box and does not say that there is none")


def _unreadable(reason: str) -> Grounding:
    return Grounding(status="unreadable", reason=reason)


@dataclass
class _Content:
    """The content of an answer.

    `boxes` are numbers and labels as written. `absent`: it says that there is no object. `broken`: it holds
    something else in the place of a box.
    """

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
_COLLECTION_KEYS = {  # their names are not labels of the boxes in them
    "bboxes_2d",
    "bboxes",
    "boxes",
    "bounding_boxes",
    "objects",
    "detections",
    "results",
    "answer",
    "items",
}
_CORNER_NAMES = (
    ("x1", "y1", "x2", "y2"),
    ("xmin", "ymin", "xmax", "ymax"),
    ("x_min", "y_min", "x_max", "y_max"),
    ("left", "top", "right", "bottom"),
)
_NUMBER = re.compile(r"(?<![\w.])[-+]?(?:[0-9]++(?:\.[0-9]*+)?|\.[0-9]++)(?![\w.])")
_POINT = r"\(\s*+([-+]?[0-9.]++)\s*+,\s*+([-+]?[0-9.]++)\s*+\)"
_PAIR = re.compile(
    r"(?:<\|object_ref_start\|>([^<>]*+)<\|object_ref_end\|>\s*+)?(?:<\|box_start\|>)?"
    rf"\s*+{_POINT}\s*+,?\s*+{_POINT}"
)
_IN_IMAGE = r"in (?:the|this) (?:image|picture|photo|scene)"
_ABSENT = re.compile(
    r"\bthere(?:'s| is| are| were| was) (?:no\b|not\b|none\b|nothing\b)"
    r"|\b(?:is|are)(?:n't| not) (?:any|there)\b"
    rf"|\bnot (?:visible|present|found|shown|seen|depicted|detected|located|there|{_IN_IMAGE})\b"
    r"|\b(?:does|do)(?:n't| not) (?:contain|show|include|appear|exist|have|depict)\b"
    r"|\b(?:contains|shows|has|see) no\b"
    rf"|\bno\b[^.\n]{{1,60}}\b(?:visible|present|found|detected|shown|{_IN_IMAGE})\b"
    r"|\babsent\b|\bnone\b|^\s*(?:null|n/a)\W*$",
    re.IGNORECASE,
)


def _collect(node: Any, content: _Content) -> None:
    """Adds the boxes of a JSON value, at any depth."""
    if isinstance(node, dict):
        _collect_object(node, content)
    elif isinstance(node, list):
        box = None if isinstance(node, relaxed_json.OpenList) else _four(node)
        if box is not None:
            content.add(box, None)
        elif not node:
            content.absent |= not isinstance(node, relaxed_json.OpenList)
        else:
            content.broken |= any(_number(entry) is not None for entry in node)
            for entry in node:
                _collect(entry, content)


def _collect_object(node: dict[str, Any], content: _Content) -> None:
    members = [(key, key.strip().lower().replace(" ", "_"), value) for key, value in node.items()]
    if isinstance(node, relaxed_json.OpenObject) and node.cut:
        members.pop()
    elif not isinstance(node, relaxed_json.OpenObject) and (corners := _named_corners(node)) is not None:
        content.add(corners, _label(members))
        return
    has_box = any(name in _BOX_KEYS for _, name, _ in members)
    for key, name, value in members:
        if name in _BOX_KEYS:
            _collect_boxes(value, _label(members), content)
        elif name in _LABEL_KEYS and not isinstance(value, dict | list):
            continue
        elif isinstance(value, list) and not any(isinstance(entry, dict) for entry in value):
            if not has_box:
                _collect_boxes(value, None if name in _COLLECTION_KEYS else key.strip(), content)
        elif value is None:
            content.absent |= not has_box
        else:
            _collect(value, content)


def _collect_boxes(value: Any, label: str | None, content: _Content) -> None:
    """Adds the value of a box key: one box, several, none, or something else."""
    closed = not isinstance(value, relaxed_json.OpenList | relaxed_json.OpenObject)
    if closed and (box := _box(value)) is not None:
        content.add(box, label)
    elif isinstance(value, list) and value and all(isinstance(entry, list | dict | str) for entry in value):
        for entry in value:
            _collect_boxes(entry, label, content)
    elif closed and (value is None or (isinstance(value, list | dict | str) and _is_empty(value))):
        content.absent = True
    else:
        content.broken = True


def _is_empty(value: list[Any] | dict[str, Any] | str) -> bool:
    if isinstance(value, str):
        return value.strip().lower() in ("", "none", "null", "n/a")
    return not value or (isinstance(value, list) and all(entry is None for entry in value))


def _box(value: Any) -> list[float] | None:
    """Four numbers from a list, a text or named corners; None for anything else."""
    if isinstance(value, str):
        numbers = _NUMBER.findall(value)
        return [_as_number(number) for number in numbers] if len(numbers) == 4 else None
    if isinstance(value, dict):
        return _named_corners(value)
    return _four(value) if isinstance(value, list) else None


def _four(values: list[Any]) -> list[float] | None:
    """Four numbers, or two corners of two numbers each; None for anything else."""
    if len(values) == 2 and all(isinstance(corner, list) and len(corner) == 2 for corner in values):
        values = [*values[0], *values[1]]
    numbers = [_number(value) for value in values]
    known = [number for number in numbers if number is not None]
    return known if len(known) == len(values) == 4 else None


def _named_corners(node: dict[str, Any]) -> list[float] | None:
    value_by_name = {key.strip().lower(): value for key, value in node.items()}
    for names in _CORNER_NAMES:
        if all(name in value_by_name for name in names):
            return _four([value_by_name[name] for name in names])
    return None


def _label(members: list[tuple[str, str, Any]]) -> str | None:
    labels = {name: value.strip() for _, name, value in members if isinstance(value, str)}
    return next((labels[name] for name in _LABEL_KEYS if name in labels), None)


def _number(value: Any) -> float | None:
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        return _as_number(value.strip())
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return value


def _as_number(digits: str) -> float:
    return int(digits) if len(digits) < 19 and "." not in digits else float(digits)


def _collect_pairs(text: str, content: _Content) -> None:
    """Adds boxes written (x1,y1),(x2,y2), with or without Qwen2-VL's markup."""
    label = None
    for match in _PAIR.finditer(text):
        label = match.group(1).strip() if match.group(1) else label
        box = _four(list(match.groups()[1:]))
        if box is not None:
            content.add(box, label)


def _in_thousandths(box: list[float], scale: tuple[int, int]) -> Corners | None:
    """The box in thousandths, ordered and clipped; None if it has no area or is in another scale."""
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
