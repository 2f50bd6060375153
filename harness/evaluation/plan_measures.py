"""What the plan and the image of one sample say of its prompt's relation, and of each other."""

from __future__ import annotations

from typing import TypedDict

from harness.interventions.reading import Reading
from harness.plan_rows import Corners
from harness.relations import Found, centers_agree
from harness.types import Chain, Region


class PlanMeasures(TypedDict):
    """The fields of `harness.plan_rows.PlanRow` that need a relation."""

    relation: str | None
    directional: bool
    planned: tuple[Corners, Corners] | None
    found: tuple[Corners, Corners] | None
    plan_right: bool | None
    plan_right_center: bool | None
    image_right: bool | None
    image_right_center: bool | None
    followed: bool | None
    iou: float | None


def measure_plan(own: Reading, center: Reading, chain: Chain, found: Found | None) -> PlanMeasures:
    """Return the measures of a sample. Without a relation in its prompt all are None.

    Args:
        own: reads the prompt by the benchmark's own rule.
        center: reads it by the order of centers.
        chain: the chain as drawn.
        found: subject and object in the image; None if the image could not be looked at.
    """
    measures = PlanMeasures(
        relation=None,
        directional=False,
        planned=None,
        found=None,
        plan_right=None,
        plan_right_center=None,
        image_right=None,
        image_right_center=None,
        followed=None,
        iou=None,
    )
    relation = own.relation
    if relation is None:
        return measures
    measures["relation"], measures["directional"] = relation.word, relation.directional
    measures["plan_right"], measures["plan_right_center"] = own.right(chain), center.right(chain)
    planned = own.boxes(chain)
    if planned is not None:
        measures["planned"] = _corners(planned[0]), _corners(planned[1])
    if found is None:
        return measures
    subject, other = found
    if subject is None or other is None:
        measures["image_right"] = measures["image_right_center"] = False
        return measures
    measures["found"] = _corners(subject), _corners(other)
    measures["image_right"] = own.holds(subject, other)
    measures["image_right_center"] = center.holds(subject, other)
    if planned is not None:
        measures["iou"] = (planned[0].iou(subject) + planned[1].iou(other)) / 2
        if relation.directional:
            planned_so = centers_agree(relation.word, *planned)
            measures["followed"] = planned_so == centers_agree(relation.word, subject, other)
    return measures


def _corners(region: Region) -> Corners:
    return region.x1, region.y1, region.x2, region.y2
