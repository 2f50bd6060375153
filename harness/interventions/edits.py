"""How the text of a chain changes: its boxes, its segments. All other characters stay as they are."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from harness.chain import BOX_END, BOX_START, END, OBJ_END, OBJ_START, parse
from harness.relations import boxed_places
from harness.types import CANVAS, Box, Chain

LIMIT = 999  # the last coordinate of a moved box in the official program, even on the axis that is kept

_ANY_TAG = "|".join(re.escape(tag) for tag in (OBJ_START, OBJ_END, BOX_START, BOX_END))
_BOX_GROUP = re.compile(rf"{re.escape(BOX_START)}(?:(?!{_ANY_TAG}).)*{re.escape(BOX_END)}", re.DOTALL)
_SEGMENT = re.compile(rf"({re.escape(OBJ_START)}.*?{re.escape(BOX_END)})", re.DOTALL)


def with_boxes(chain: Chain, boxes: Mapping[int, Box]) -> str | None:
    """Return the text of a chain with other boxes for some of its objects, up to begin-of-image.

    Args:
        chain: the chain, as parsed.
        boxes: place of an object that has a box -> its new box.

    Returns:
        The text, or None where it does not say which box belongs to which object.
    """
    body = body_of(chain)
    groups, boxed = list(_BOX_GROUP.finditer(body)), boxed_places(chain)
    if len(groups) != len(boxed):
        return None
    pieces, end = [], 0
    for group, place in zip(groups, boxed, strict=True):
        pieces += [body[end : group.start()], written(boxes[place]) if place in boxes else group.group()]
        end = group.end()
    edited = "".join([*pieces, body[end:]]) + END
    wanted = [
        replace(planned, box=boxes.get(place, planned.box)) for place, planned in enumerate(chain.objects)
    ]
    return edited if list(parse(edited).objects) == wanted else None


def body_of(chain: Chain) -> str:
    """Return the text before begin-of-image."""
    return chain.text.partition(END)[0]


def written(box: Box) -> str:
    """Return a box group in the exact form of the grammar."""
    return f"{BOX_START}({box.x1},{box.y1}),({box.x2},{box.y2}){BOX_END}"


def numbers(box: Box) -> list[int]:
    """Return a box as a JSON value."""
    return [box.x1, box.y1, box.x2, box.y2]


def without_boxes(chain: Chain) -> str:
    """Return the text before begin-of-image without its box groups and the blanks before them."""
    return re.sub(rf"\s*{_BOX_GROUP.pattern}", "", body_of(chain), flags=re.DOTALL)


def until_last_box(chain: Chain) -> str | None:
    """Return the text up to the end of the last box group, or None where there is none."""
    groups = list(_BOX_GROUP.finditer(body_of(chain)))
    return body_of(chain)[: groups[-1].end()] if groups else None


def segments(chain: Chain) -> list[str]:
    """Return the segments of a chain: from an object's start to the end of the next box."""
    return _SEGMENT.findall(body_of(chain))


def with_segments(chain: Chain, ordered: Sequence[str]) -> str | None:
    """Return the text with its segments in another order, up to begin-of-image; text between them stays.

    None where the chain is so malformed that other objects would be read from it.
    """
    pieces = _SEGMENT.split(body_of(chain))
    pieces[1::2] = ordered
    edited = "".join(pieces) + END
    return edited if Counter(parse(edited).objects) == Counter(chain.objects) else None


def centered(box: Box, center: tuple[float, float], limit: int) -> Box:
    """Return a box of the same size around a center, moved so that it stays within 0..limit.

    Corners are rounded down. A box that is larger than `limit` begins at 0.
    """
    width, height = box.x2 - box.x1, box.y2 - box.y1
    left = int(max(0, min(limit - width, center[0] - width / 2)))
    top = int(max(0, min(limit - height, center[1] - height / 2)))
    return Box(left, top, left + width, top + height)


def distance(a: Box, b: Box, axis: int) -> float:
    """Return how far apart two centers are along an axis, as a share of the canvas."""
    return abs(a.center[axis] - b.center[axis]) / CANVAS
