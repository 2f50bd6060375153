"""The boxes in a model's answer: in thousandths of the image, or absent, or unreadable.

Each family of models answers in its own coordinates (`CONVENTIONS`). An absent object is a result (IoU 0);
an unreadable answer is none (unscored). The scale of an answer is never guessed.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

from harness.experts import relaxed_json
from harness.experts.grounding.written import Content, collect, collect_pairs
from harness.experts.judge.answers import CUT, EMPTY_AT_LIMIT, REFUSAL, broken_off, cleaned
from harness.types import CANVAS

Corners = tuple[float, float, float, float]


@dataclass(frozen=True, kw_only=True)
class Convention:
    """The coordinates of a family of models.

    Thousandths of the image by default; with `factor`, pixels of the image resized to multiples of it. With
    `y_first`, four numbers are y1, x1, y2, x2, and the key of a box is `box_2d`.
    """

    models: str  # a regular expression for the models' names
    factor: int | None = None
    y_first: bool = False


CONVENTIONS = {
    "qwen2_5_vl": Convention(models=r"qwen-?2[._]5-?_?vl", factor=28),
    "qwen3_vl": Convention(models=r"qwen-?3-?_?vl"),
    "qwen2_vl": Convention(models=r"qwen-?2-?_?vl"),
    "relative_1000": Convention(models=r"(?!)"),  # for models whose prompt asks for thousandths
    "gemini": Convention(models=r"(?!)", y_first=True),  # no model's name: Gemini can be asked for others too
}
SLACK = 20  # thousandths that a box may exceed the image by; with more it is in another scale


@dataclass(frozen=True, kw_only=True)
class Grounding:
    """Boxes (x1, y1, x2, y2 in thousandths) with one label each; `reason` if the answer is unreadable.

    `swapped` is the number of boxes whose second corner came first: they may be in another convention.
    """

    status: Literal["ok", "absent", "unreadable"]
    boxes: tuple[Corners, ...] = ()
    labels: tuple[str | None, ...] = ()
    swapped: int = 0
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
        return _unreadable(EMPTY_AT_LIMIT if finish_reason.lower() == CUT else "the answer is empty")
    if "<think>" in text:
        return _unreadable("the answer never ends its thinking")
    factor, y_first = CONVENTIONS[convention].factor, CONVENTIONS[convention].y_first
    content = Content(y_first=y_first)
    for value in relaxed_json.values(text):
        collect(value, content)
    if not content.boxes and not y_first:
        collect_pairs(text, content)
    scale = (CANVAS, CANVAS)
    if factor is not None:
        scale = seen_size(*image_size, factor=factor, min_pixels=min_pixels, max_pixels=max_pixels)
    boxes: dict[
        tuple[Corners, str | None], bool
    ] = {}  # distinct, in order -> whether its corners are swapped
    for numbers, label in content.boxes:
        box = _in_thousandths(numbers, scale)
        if box is not None:
            boxes[box, label] = numbers[0] > numbers[2] or numbers[1] > numbers[3]
    if boxes:
        found, labels = zip(*boxes, strict=True)
        return Grounding(status="ok", boxes=found, labels=labels, swapped=sum(boxes.values()))
    if content.boxes:
        return _unreadable("its boxes are empty or lie far outside the image")
    if content.broken:
        return _unreadable("it holds something else than boxes of four numbers")
    if content.absent or (_ABSENT.search(text) and not REFUSAL.search(text)):
        return Grounding(status="absent")
    return _unreadable("it holds no box and does not say that there is none")


def _unreadable(reason: str) -> Grounding:
    return Grounding(status="unreadable", reason=reason)


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
