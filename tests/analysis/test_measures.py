"""Measures of plans: rows that are analyzed like the scores of a category."""

from __future__ import annotations

from dataclasses import replace

from harness.analysis.measures import MEASURES, NO_BOXES, measure_rows
from harness.plan_rows import PlanRow

BOXES = ((0.0, 0.0, 400.0, 400.0), (500.0, 0.0, 900.0, 400.0))
RIGHT = PlanRow(
    index=7,
    prompt_id="p",
    category="2D-spatial",
    number=1,
    seed=3,
    relation="on the left of",
    directional=True,
    planned=BOXES,
    found=BOXES,
    plan_right=True,
    plan_right_center=True,
    image_right=False,
    image_right_center=True,
    followed=True,
    iou=0.75,
    ri=1.0,
    applied=True,
    nll=0.2,
    score=1.0,
    unscored=None,
)


def by_measure(row: PlanRow) -> dict:
    return {scored.category: scored for scored in measure_rows([row])}


def test_every_measure_has_a_row_with_its_own_number():
    rows = by_measure(RIGHT)
    assert list(rows) == list(MEASURES)
    values = {measure: row.value for measure, row in rows.items()}
    assert values == {
        "relation": 0.0,
        "relation (centers)": 1.0,
        "plan right": 1.0,
        "plan right (centers)": 1.0,
        "followed": 1.0,
        "plan IoU": 0.75,
    }
    row = rows["relation"]
    assert (row.index, row.prompt_id, row.number, row.seed, row.unscored) == (7, "p", 1, 3, None)


def test_what_was_not_measured_is_unscored_and_never_0():
    rows = by_measure(replace(RIGHT, image_right=None, image_right_center=None, unscored="no detector"))
    assert (rows["relation"].value, rows["relation"].unscored) == (None, "no detector")
    rows = by_measure(replace(RIGHT, planned=None, plan_right=False, iou=None, followed=None))
    assert (rows["plan right"].value, rows["plan right"].unscored) == (0.0, None)
    assert (rows["plan IoU"].value, rows["plan IoU"].unscored) == (None, NO_BOXES)


def test_prompts_have_only_the_measures_that_their_relation_allows():
    assert by_measure(replace(RIGHT, relation=None)) == {}
    assert set(MEASURES) - set(by_measure(replace(RIGHT, directional=False))) == {"followed"}
