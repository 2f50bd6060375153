"""What the gallery shows of plans: found boxes in the image, and how a chain differs from the own one."""

from __future__ import annotations

import re
from difflib import SequenceMatcher

from PIL import Image, ImageDraw

from harness.plan_rows import Corners, PlanRow
from harness.samples import SampleRow
from harness.types import CANVAS

_FOUND = "#1f2933"
_DASH = 5  # pixels
_WORDS = re.compile(r"\s+|[^\s<>]+|<[^<>]*>|[<>]")


def draw_found(image: Image.Image, plan: PlanRow) -> None:
    """Draw the boxes of subject and object that were found into an image, dashed."""
    pen = ImageDraw.Draw(image)
    for box in plan.found or ():
        _dashed(pen, box, image.size)


def _dashed(pen: ImageDraw.ImageDraw, box: Corners, size: tuple[int, int]) -> None:
    left, right = (round(value * (size[0] - 1) / CANVAS) for value in (box[0], box[2]))
    top, bottom = (round(value * (size[1] - 1) / CANVAS) for value in (box[1], box[3]))
    for x in range(left, right, 2 * _DASH):
        for y in (top, bottom):
            pen.line((x, y, min(x + _DASH, right), y), fill=_FOUND)
    for y in range(top, bottom, 2 * _DASH):
        for x in (left, right):
            pen.line((x, y, x, min(y + _DASH, bottom)), fill=_FOUND)


def hover_text(sample: SampleRow) -> str:
    """Return the chain of a sample: where an intervention changed it, what it removed and added; and a
    caption that replaced the prompt.
    """
    origin = sample.drawn_from
    if origin is None:
        return sample.chain
    text = chain_difference(origin.own_chain, sample.chain)
    return text if origin.caption is None else f"caption: {origin.caption!r}\n{text}"


def chain_difference(own: str, drawn: str) -> str:
    """Return the drawn chain, with words that the own chain had as [-words-] and new ones as {+words+}."""
    before, after = _WORDS.findall(own), _WORDS.findall(drawn)
    parts = []
    for kind, i, j, k, m in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        removed, added = "".join(before[i:j]), "".join(after[k:m])
        if kind == "equal":
            parts.append(added)
            continue
        parts.append(f"[-{removed}-]" if removed else "")
        parts.append(f"{{+{added}+}}" if added else "")
    return "".join(parts)
