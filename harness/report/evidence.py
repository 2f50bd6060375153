"""Reads the evidence of a score for people: the boxes it names, and its words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.types import CANVAS, Box, PlannedObject

BOX_FIELDS = ("detections", "boxes", "frame")


def detected(evidence: Mapping[str, Any]) -> tuple[PlannedObject, ...] | None:
    """Return the objects that were found in the image, named by label and confidence.

    Benchmarks list them under `detections`, on 0..1000, or under `boxes`, in pixels of `frame` (width,
    height). None where the evidence has no such list: a plugin may write what it likes.
    """
    try:
        if "detections" in evidence:
            found, frame = evidence["detections"], (CANVAS, CANVAS)
        else:
            found, frame = evidence["boxes"], evidence["frame"]
        return tuple(_object(one, frame) for one in found)
    except (KeyError, TypeError, ValueError, ArithmeticError):
        return None


def _object(one: Mapping[str, Any], frame: Sequence[float]) -> PlannedObject:
    corners = []
    for value, size in zip(one["box"], [*frame, *frame], strict=True):
        corners.append(round(min(max(value * CANVAS / size, 0), CANVAS)))
    return PlannedObject(name=f"{one['label']} {one['score']:.2f}", box=Box(*corners))


def words(evidence: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the entries of the evidence in lines, without the boxes that `detected` reads."""
    drawn = BOX_FIELDS if detected(evidence) is not None else ()
    lines = []
    for name, value in evidence.items():
        if name not in drawn:
            lines += [f"{name}: {_text(part)}" for part in _parts(value)]
    return tuple(lines)


def _parts(value: Any) -> Sequence[Any]:
    """Return the items of a list of objects, which need a line each, or else the value alone."""
    is_table = isinstance(value, list) and value and all(isinstance(one, Mapping) for one in value)
    return value if is_table else [value]


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_text(part)}" for name, part in value.items())
    if isinstance(value, list):
        return "; ".join(map(_text, value)) or "none"
    if isinstance(value, float):
        return f"{value:.3g}"
    return "none" if value is None else str(value)
