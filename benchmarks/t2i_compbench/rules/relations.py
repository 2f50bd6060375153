"""How well two boxes stand in a relation in the plane (`determine_position` of 2D_spatial_eval.py, spec
section 5).
"""

from __future__ import annotations

from math import hypot

from benchmarks.mode import Mode

LOCALITIES = (  # in the order in which the official script looks for them
    "on side of",
    "next to",
    "near",
    "on the left of",
    "on the right of",
    "on the bottom of",
    "on the top of",
    "on top of",
)
ALIASES = {"on top of": "on the top of", "on bottom of": "on the bottom of"}  # corrected mode (Q2, Q3)
NEAR = 150  # pixels of the frame
SIDE = 480  # pixels: the side of a frame for which NEAR was meant
OVERLAP = 0.1  # IoU from which boxes overlap too much to lie beside each other

Box4 = tuple[float, float, float, float]  # x1, y1, x2, y2 in pixels of the frame


def first_locality(text: str, localities: tuple[str, ...] = LOCALITIES) -> str | None:
    """The first of the `localities` that occurs in the text, None where none does."""
    return next((locality for locality in localities if locality in text), None)


def position(
    locality: str | None, a: Box4, b: Box4, *, mode: Mode = "official", frame: tuple[int, int] = (479, 479)
) -> float:
    """How well `a` is `locality` `b`, in [0, 1]; 0 where that is no relation with a rule.

    A direction holds if its axis strictly dominates the way from centre to centre; boxes that overlap by
    an IoU of 0.1 and more get 0.1 / IoU. Things are near if their centres are less than 150 pixels apart
    on *one* axis (Q5); beyond, it is 150 over the longer distance.

    Corrected: `on top of` and `on bottom of` are directions too (Q2, Q3), and near is by the distance of
    the centres (Q5), in a frame of any size (Q7: 150 of 480 of the longer side of `frame`, its width and
    height in pixels).
    """
    dx, dy = (b[0] + b[2]) / 2 - (a[0] + a[2]) / 2, (b[1] + b[3]) / 2 - (a[1] + a[3]) / 2
    if mode == "corrected":
        locality = ALIASES.get(locality or "", locality)
    if locality in ("next to", "on side of", "near"):
        return _nearness(dx, dy) if mode == "official" else _within(hypot(dx, dy), NEAR / SIDE * max(frame))
    if not _holds(locality, dx, dy):
        return 0.0
    overlap = iou(a, b)
    return 1.0 if overlap < OVERLAP else OVERLAP / overlap


def iou(a: Box4, b: Box4) -> float:
    """Intersection over union on continuous coordinates; 0 when both are empty, where the official script
    would stop.
    """
    shared = max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return shared / union if union else 0.0


def _nearness(dx: float, dy: float) -> float:
    return 1.0 if abs(dx) < NEAR or abs(dy) < NEAR else NEAR / max(abs(dx), abs(dy))


def _within(distance: float, limit: float) -> float:
    return 1.0 if distance < limit else limit / distance


def _holds(direction: str | None, dx: float, dy: float) -> bool:
    match direction:
        case "on the left of":
            return dx > 0 and abs(dx) > abs(dy)
        case "on the right of":
            return dx < 0 and abs(dx) > abs(dy)
        case "on the top of":
            return dy > 0 and abs(dy) > abs(dx)
        case "on the bottom of":
            return dy < 0 and abs(dy) > abs(dx)
    return False
