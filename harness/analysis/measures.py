"""The measures of plans as rows that are analyzed like the scores of a category."""

from __future__ import annotations

from collections.abc import Iterable

from harness.plan_rows import PlanRow
from harness.samples import ScoreRow

RELATION, PLAN_RIGHT = "relation", "plan right"
CENTERS = " (centers)"  # ends the measures whose rule is the order of the boxes' centers
FOLLOWED, PLAN_IOU = "followed", "plan IoU"

# Measure -> the field of PlanRow that holds it.
MEASURES = {
    RELATION: "image_right",
    RELATION + CENTERS: "image_right_center",
    PLAN_RIGHT: "plan_right",
    PLAN_RIGHT + CENTERS: "plan_right_center",
    FOLLOWED: "followed",
    PLAN_IOU: "iou",
}
_NEEDS_BOXES = (FOLLOWED, PLAN_IOU)
NO_BOXES = "a box of subject or object is missing in chain or image"


def described_as(measure: str) -> str:
    """Return the measure whose entry in metric.json describes a measure: both rules have one entry."""
    return measure.removesuffix(CENTERS)


def measure_rows(plans: Iterable[PlanRow]) -> tuple[ScoreRow, ...]:
    """Return a row per sample and measure, with the measure as category: 0 or 1, or the IoU.

    Prompts without a relation have no rows, and those whose relation has no direction none of `followed`.
    """
    rows = []
    for plan in plans:
        for measure, field in MEASURES.items():
            if plan.relation is None or (measure == FOLLOWED and not plan.directional):
                continue
            value = getattr(plan, field)
            missing = plan.unscored or (NO_BOXES if measure in _NEEDS_BOXES else "not measured")
            rows.append(
                ScoreRow(
                    index=plan.index,
                    prompt_id=plan.prompt_id,
                    category=measure,
                    number=plan.number,
                    seed=plan.seed,
                    value=None if value is None else float(value),
                    unscored=missing if value is None else None,
                )
            )
    return tuple(rows)
