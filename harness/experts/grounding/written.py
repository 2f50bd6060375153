"""The boxes of an answer as the model wrote them: numbers and labels, in any of the known forms."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any

from harness.experts import relaxed_json


@dataclass
class Content:
    """The content of an answer.

    `boxes` are numbers, x first, and labels as written. `absent`: it says that there is no object. `broken`:
    it holds something else in the place of a box.
    """

    y_first: bool
    boxes: list[tuple[list[float], str | None]] = field(default_factory=list)
    absent: bool = False
    broken: bool = False

    @property
    def box_keys(self) -> frozenset[str]:
        return _Y_FIRST_KEYS if self.y_first else _X_FIRST_KEYS

    def add(self, box: list[float], label: str | None, *, named: bool = False) -> None:
        """Adds four numbers in the order of the convention; `named`: in the order x1, y1, x2, y2."""
        if self.y_first and not named:
            box = [box[1], box[0], box[3], box[2]]
        if any(box):
            self.boxes.append((box, label))
        else:
            self.absent = True


_X_FIRST_KEYS = frozenset({"bbox_2d", "bbox2d", "bbox", "box", "bounding_box"})
_Y_FIRST_KEYS = frozenset({"box_2d", "box2d"})  # Gemini's
_GEOMETRY = re.compile(  # the names of boxes in unknown conventions, not of things
    r"(?:b?box(?:es)?|bounding|rect|coord(?:inate)?s?|corners?|points?|pos(?:ition)?|loc(?:ation)?|region|area"
    r"|size|xyxy|xywh|yxyx|cxcywh|norm(?:alized)?|abs(?:olute)?|rel(?:ative)?|pixels?|polygon|segmentation"
    r"|colou?r|rgba?|[0-9]|d|\W|_)++"
)
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


def collect(node: Any, content: Content) -> None:
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
                collect(entry, content)


def _collect_object(node: dict[str, Any], content: Content) -> None:
    members = [(key, key.strip().lower().replace(" ", "_"), value) for key, value in node.items()]
    if isinstance(node, relaxed_json.OpenObject) and node.cut:
        members.pop()
    elif not isinstance(node, relaxed_json.OpenObject) and (corners := _named_corners(node)) is not None:
        content.add(corners, _label(members), named=True)
        return
    has_box = any(name in content.box_keys for _, name, _ in members)
    is_map = _is_map_by_name(members)
    for key, name, value in members:
        if name in content.box_keys:
            _collect_boxes(value, _label(members), content)
        elif name in _LABEL_KEYS and not isinstance(value, dict | list):
            continue
        elif isinstance(value, list) and not any(isinstance(entry, dict) for entry in value):
            if name in _COLLECTION_KEYS and not has_box:
                _collect_boxes(value, None, content)
            elif is_map:
                _collect_boxes(value, key.strip(), content)
            elif not has_box:  # four numbers under an unknown key are no box
                content.absent |= not value
                content.broken |= bool(value)
        elif value is None:
            content.absent |= not has_box
        elif is_map and len(members) > 1:
            _collect_named(key.strip(), value, content)
        else:
            collect(value, content)


def _is_map_by_name(members: list[tuple[str, str, Any]]) -> bool:
    """Whether an object's keys are the names of things: each holds boxes, or nothing."""
    for _, name, value in members:
        if name in (*_X_FIRST_KEYS, *_Y_FIRST_KEYS, *_COLLECTION_KEYS) or _GEOMETRY.fullmatch(name):
            return False
        if not (value is None or isinstance(value, list | dict)):
            return False
    return True


def _collect_named(name: str, value: Any, content: Content) -> None:
    """Adds the boxes of a thing; those without a label of their own receive its name."""
    before = len(content.boxes)
    collect(value, content)
    content.boxes[before:] = [(box, label or name) for box, label in content.boxes[before:]]


def _collect_boxes(value: Any, label: str | None, content: Content) -> None:
    """Adds the value of a box key: one box, several, none, or something else."""
    closed = not isinstance(value, relaxed_json.OpenList | relaxed_json.OpenObject)
    if closed and isinstance(value, dict) and (corners := _named_corners(value)) is not None:
        content.add(corners, label, named=True)
    elif closed and (box := _box(value)) is not None:
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
    """Four numbers from a list or a text; None for anything else."""
    if isinstance(value, str):
        numbers = _NUMBER.findall(value)
        return [_as_number(number) for number in numbers] if len(numbers) == 4 else None
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


def collect_pairs(text: str, content: Content) -> None:
    """Adds boxes written (x1,y1),(x2,y2), with or without Qwen2-VL's markup."""
    label = None
    for match in _PAIR.finditer(text):
        label = match.group(1).strip() if match.group(1) else label
        box = _four(list(match.groups()[1:]))
        if box is not None:
            content.add(box, label)
