"""What the plan of a study says of its interventions."""

from __future__ import annotations

from harness.analysis.measures import MEASURES
from harness.interventions.candidates import Fresh, Verify
from harness.interventions.captions import Reprompted, Uncaptioned
from harness.interventions.case import Intervention
from harness.interventions.other import Other
from harness.study.interventions import baselines, measures
from harness.types import Cell, Stage

VERIFY = {"_target_": "harness.interventions.candidates.Verify", "candidates": 5}
SWAP = {"_target_": "harness.interventions.swap.Swap"}


def cell(arm: str, last: str, **config: object) -> Cell:
    stage = Stage(name=last, program="a.b", settings={}, inputs={})
    return Cell(id=arm, arm=arm, seed=0, overrides=(), config=config, stages=(stage,))


def test_a_study_has_measures_if_some_cell_measures_its_plans():
    assert measures([cell("a", "scores"), cell("b", "plans")]) == list(MEASURES)
    assert measures([cell("a", "scores"), cell("b", "chains")]) == []


def test_interventions_are_known_by_name_with_the_baseline_of_their_class():
    cells = [
        cell("full", "scores"),
        cell("plain", "scores", intervention=None),
        cell("verify_5", "plans", intervention=VERIFY),
        cell("swap", "plans", intervention=SWAP),
    ]
    assert baselines(cells) == {"verify": "own", "swap": "reencoded"}


def test_interventions_that_draw_the_own_ids_where_not_applied_are_compared_with_these():
    assert Intervention.baseline == Reprompted.baseline == "reencoded"
    assert {one.baseline for one in (Fresh, Verify, Other, Uncaptioned)} == {"own"}
