"""Plan or drawing: identities that hold on any data, and intervals on data whose truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.analysis.attribution import attribute, parts, prompt_shares, quantities, split

ROWS = st.lists(st.tuples(st.sampled_from("abcdefgh"), st.booleans(), st.booleans()), min_size=1, max_size=60)


def rows(right_right: int, right_wrong: int, wrong_right: int, wrong_wrong: int) -> list:
    """One image per prompt, of which so many have a right plan and a right image, and so forth."""
    kinds = [(True, True)] * right_right + [(True, False)] * right_wrong
    kinds += [(False, True)] * wrong_right + [(False, False)] * wrong_wrong
    return [(f"p{number:04d}", *kind) for number, kind in enumerate(kinds)]


def mean(data) -> np.ndarray:
    return np.mean(list(prompt_shares(data).values()), axis=0)


@given(ROWS)
def test_the_share_of_right_images_is_p_a_plus_the_rest_times_b(data):
    p, a, b, right = quantities(mean(data))
    total = (p * a if p else 0.0) + ((1 - p) * b if not math.isnan(b) else 0.0)
    assert total == pytest.approx(right, abs=1e-12)


@given(ROWS, ROWS)
def test_plan_part_and_drawing_part_add_up_to_the_change(one, two):
    first, second = mean(one), mean(two)
    assert parts(first, second).sum() == pytest.approx(
        quantities(second)[3] - quantities(first)[3], abs=1e-12
    )


@given(ROWS, ROWS)
@settings(max_examples=15, deadline=None)
def test_the_split_of_common_prompts_adds_up_and_turns_around(one, two):
    first, second = prompt_shares(one), prompt_shares(two)
    there, back = split(first, second), split(second, first)
    if not first.keys() & second.keys():
        assert there is None
        return
    assert there.plan + there.drawing == pytest.approx(there.change, abs=1e-12)
    assert (back.plan, back.drawing) == pytest.approx((-there.plan, -there.drawing), abs=1e-12)


def test_the_numbers_of_a_table_of_four_fields():
    found = attribute(rows(50, 3, 1, 46))
    assert found.shares == pytest.approx((0.50, 0.03, 0.01, 0.46))
    assert found.values["p"] == pytest.approx(0.53)
    assert found.values["a"] == pytest.approx(50 / 53)
    assert found.values["b"] == pytest.approx(1 / 47)
    assert found.values["right"] == pytest.approx(0.51)
    assert (found.prompts, found.images) == (100, 100)
    for name, value in found.values.items():
        assert found.intervals[name].low <= value <= found.intervals[name].high


def test_every_prompt_weighs_the_same_however_many_images_it_has():
    data = [("one", True, True)] * 9 + [("two", False, False)]
    assert attribute(data).values["right"] == pytest.approx(0.5)


def test_better_plans_alone_are_a_plan_part_and_better_drawing_alone_a_drawing_part():
    plans = split(prompt_shares(rows(40, 0, 0, 60)), prompt_shares(rows(80, 0, 0, 20)))
    assert (plans.plan, plans.drawing) == pytest.approx((0.4, 0.0))
    drawing = split(prompt_shares(rows(20, 30, 0, 50)), prompt_shares(rows(40, 10, 0, 50)))
    assert (drawing.plan, drawing.drawing) == pytest.approx((0.0, 0.2))


def test_a_share_of_no_plan_is_undefined_and_its_drawing_did_not_change():
    found = attribute(rows(0, 0, 2, 8))
    assert math.isnan(found.values["a"]) and found.intervals["a"].low is None
    change = split(prompt_shares(rows(0, 0, 0, 10)), prompt_shares(rows(9, 0, 0, 1)))
    assert (change.plan, change.drawing) == pytest.approx((0.9, 0.0))


def test_intervals_cover_the_truth_as_often_as_they_say():
    rng, covered, studies, prompts = np.random.default_rng(5), 0, 120, 150
    for _ in range(studies):
        plan = rng.random(prompts) < 0.6
        image = rng.random(prompts) < np.where(plan, 0.9, 0.1)
        found = attribute([(f"p{n}", *pair) for n, pair in enumerate(zip(plan, image, strict=True))])
        covered += found.intervals["right"].low <= 0.58 <= found.intervals["right"].high
    assert covered / studies > 0.95 - 3 * math.sqrt(0.95 * 0.05 / studies)


def test_no_images_and_a_single_prompt():
    assert attribute([]) is None
    assert attribute(rows(1, 0, 0, 0)).intervals["p"].low is None
