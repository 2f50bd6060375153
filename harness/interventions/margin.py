"""The boxes of subject and object moved to a fixed distance along the axis of their relation."""

from __future__ import annotations

from typing import Any

from harness.interventions.case import NO_DIRECTION, NO_RELATION, UNCLEAR_BOXES, Case, Change, Intervention
from harness.interventions.edits import LIMIT, centered, distance, numbers, with_boxes
from harness.relations import AXES, Roles, boxed_places
from harness.settings import flag
from harness.types import CANVAS, Box


class Margin(Intervention):
    """Moves both boxes: their centers end at (1 - margin) / 2 and (1 + margin) / 2 of the axis.

    The subject's box stands on the side that the relation asks for. Sizes and the other axis stay, so
    T2I-CompBench's 2D rule, where the axis must dominate, requires a margin above the distance on that axis.

    Args:
        margin: the distance of the centers as a share of the canvas; 0.2, 0.4 and 0.6 in arXiv 2608.21713.
        least: moves only boxes whose centers are closer than `margin`, or in the wrong order.
        limit: the largest coordinate of a moved box, 999 (official) or 1000.

    Raises:
        ValueError: a setting is none of those allowed.
    """

    name = "margin"
    reads = ("relation",)

    def __init__(self, *, margin: float, least: bool, limit: int) -> None:
        if isinstance(margin, bool) or not isinstance(margin, int | float) or not 0 < margin < 1:
            raise ValueError(
                f"intervention.margin={margin!r}: give a share of the canvas above 0 and below 1"
                " (the paper: 0.2)"
            )
        if limit not in (LIMIT, CANVAS):
            raise ValueError(f"intervention.limit={limit!r}: allowed are {LIMIT} (official) and {CANVAS}")
        self._margin, self._limit = margin, limit
        self._least = flag("intervention.least", least)

    def __call__(self, case: Case) -> Change:
        relation = case.reading.relation
        if relation is None:
            return case.unedited(NO_RELATION)
        if not relation.directional:
            return case.unedited(NO_DIRECTION)
        roles, boxes = case.reading.roles(case.chain), case.reading.boxes(case.chain)
        if roles is None or boxes is None:
            return case.unedited(case.no_box())
        axis, side = AXES[relation.word]
        ahead = (boxes[0].center[axis] - boxes[1].center[axis]) * side / CANVAS
        if self._least and ahead >= self._margin:
            return case.unedited(f"the boxes are at least {self._margin:g} apart")
        moved = self._move(case, boxes[0], axis, side), self._move(case, boxes[1], axis, -side)
        text = with_boxes(case.chain, dict(zip(roles, moved, strict=True)))
        if text is None:
            return case.unedited(UNCLEAR_BOXES)
        return Change(chain=text, details=_details(case, roles, boxes, moved, axis))

    def _move(self, case: Case, box: Box, axis: int, side: int) -> Box:
        center = list(box.center)
        center[axis] = CANVAS / 2 + side * self._margin * CANVAS / 2
        return case.reading.place(centered(box, (center[0], center[1]), self._limit))


def _details(
    case: Case, roles: Roles, boxes: tuple[Box, Box], moved: tuple[Box, Box], axis: int
) -> dict[str, Any]:
    """What moved from where to where, how far the centers are apart, and which objects are now covered."""
    overlapped = []
    for place in boxed_places(case.chain):
        other = case.chain.objects[place]
        if place not in roles and other.box and any(box.iou(other.box) > 0 for box in moved):
            overlapped.append(other.name)
    return {
        "boxes_before": [numbers(box) for box in boxes],
        "boxes_after": [numbers(box) for box in moved],
        "margin": distance(*boxes, axis),
        "achieved_margin": distance(*moved, axis),
        "overlapped": overlapped,
    }
