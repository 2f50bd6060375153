"""Relations between two objects, judged by their boxes in pixels of the canvas."""

from __future__ import annotations

from harness.types import CANVAS, Box, Region

PIXELS = 24  # the canvas is PIXELS x PIXELS
NEAR = PIXELS * 150 / 480  # pixels; T2I-CompBench's 150 on a frame of 480
OVERLAP = 0.1  # IoU from which T2I-CompBench takes two boxes for overlapping
BIGGER = 1.5  # ratio of areas from which one object is bigger; the world's two sizes differ by 2.25

DIRECTIONS = ("on the left of", "on the right of", "on the top of", "on the bottom of")
SPATIAL = (*DIRECTIONS, "next to")
SIZES = ("bigger than", "smaller than")
OPPOSITE = {
    "on the left of": "on the right of",
    "on the right of": "on the left of",
    "on the top of": "on the bottom of",
    "on the bottom of": "on the top of",
    "bigger than": "smaller than",
    "smaller than": "bigger than",
}
_AT_SIDE = ("next to", "on side of", "near")

Corners = tuple[float, float, float, float]  # x1, y1, x2, y2


def pixels(box: Region) -> Corners:
    """The corners in whole pixels, so that rounding to the 0..1000 scale cannot break a tie."""
    x1, y1, x2, y2 = (float(round(value * PIXELS / CANVAS)) for value in (box.x1, box.y1, box.x2, box.y2))
    return x1, y1, x2, y2


def thousandths(corners: tuple[int, int, int, int]) -> Box:
    """The box on the 0..1000 scale whose `pixels` are these."""
    return Box(*(round(value * CANVAS / PIXELS) for value in corners))


def area(corners: Corners) -> float:
    """In square pixels."""
    return (corners[2] - corners[0]) * (corners[3] - corners[1])


def iou(a: Corners, b: Corners) -> float:
    """Intersection over union on continuous coordinates; 0 when both are empty."""
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    union = area(a) + area(b) - width * height
    return width * height / union if union > 0 else 0.0


def offset(a: Corners, b: Corners) -> tuple[float, float]:
    """From the centre of `a` to the centre of `b`: x right, y down."""
    return (b[0] + b[2] - a[0] - a[2]) / 2, (b[1] + b[3] - a[1] - a[3]) / 2


def position(word: str, a: Corners, b: Corners, near: float = NEAR) -> float:
    """How well `a` stands in a spatial relation to `b`, in [0, 1]: T2I-CompBench's 2D rule
    (2D_spatial_eval.py).

    A direction holds only if that axis strictly dominates; boxes that overlap by IoU >= 0.1 get 0.1 /
    IoU. Words that are not spatial give 0.
    """
    dx, dy = offset(a, b)
    if word in _AT_SIDE:
        return 1.0 if abs(dx) < near or abs(dy) < near else near / max(abs(dx), abs(dy))
    holds = {
        "on the left of": dx > 0 and abs(dx) > abs(dy),
        "on the right of": dx < 0 and abs(dx) > abs(dy),
        "on the top of": dy > 0 and abs(dy) > abs(dx),
        "on the bottom of": dy < 0 and abs(dy) > abs(dx),
    }
    if not holds.get(word, False):
        return 0.0
    overlap = iou(a, b)
    return 1.0 if overlap < OVERLAP else OVERLAP / overlap


def holds(word: str, a: Corners, b: Corners) -> float:
    """How well any relation word of the world holds, in [0, 1]; sizes are compared by the areas of the
    boxes.
    """
    if word == "bigger than":
        return float(area(a) > 0 and area(a) >= BIGGER * area(b))
    if word == "smaller than":
        return float(area(b) > 0 and area(b) >= BIGGER * area(a))
    return position(word, a, b)
