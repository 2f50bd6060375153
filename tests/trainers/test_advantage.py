"""Advantages against numpy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from harness.trainers.advantage import (
    Batch,
    Centered,
    Gdpo,
    Group,
    Rank,
    centered,
    standard_scores,
    win_rates,
)
from harness.types import Grade

TOTALS = [[0.1, 0.9, 0.4, 0.4, 0.0], [0.5, 0.2], [0.3, 0.3, 0.3], []]


def graded(groups: Sequence[Sequence[float]]) -> list[list[Grade]]:
    return [[Grade(total=total, components={}) for total in totals] for totals in groups]


def test_advantages_are_standard_scores_of_the_group() -> None:
    values = np.array(TOTALS[0])
    first, second, equal, empty = Group()(graded(TOTALS))
    assert first == pytest.approx((values - values.mean()) / values.std(), abs=1e-12)
    assert second == pytest.approx([1, -1]) and equal == [0, 0, 0] and empty == []


def test_no_deviation_leaves_differences_from_the_mean() -> None:
    values = np.array(TOTALS[0])
    first, second, equal, _ = Centered()(graded(TOTALS))
    assert first == pytest.approx(values - values.mean(), abs=1e-12)
    assert second == pytest.approx([0.15, -0.15]) and equal == [0, 0, 0]


def test_a_batch_has_one_deviation() -> None:
    differences = [np.array(totals) - np.mean(totals) for totals in TOTALS[:3]]
    deviation = np.concatenate(differences).std()
    for found, expected in zip(Batch()(graded(TOTALS)), differences, strict=False):
        assert found == pytest.approx(expected / deviation, abs=1e-12)


def test_ranks_throw_away_distances() -> None:
    near, far = Rank()(graded([[0.1, 0.2, 0.3, 0.30001], [0.0, 0.5, 0.7, 1.0]]))
    assert near == pytest.approx(far) and near == pytest.approx(standard_scores([0, 1, 2, 3]))
    assert win_rates([0.5, 0.5, 0.1]) == [0.75, 0.75, 0]
    assert Rank()(graded([[0.3, 0.1 + 0.2]])) == [[0, 0]], "equal but for rounding"


def test_gdpo_needs_no_total() -> None:
    components = [({"a": 0.1, "b": 0.9}), ({"a": 0.4, "b": 0.9}), ({"a": 0.7, "b": 0.0})]
    grades = [Grade(total=0.5, components=values) for values in components]
    (found,) = Gdpo(weights={"b": 0.5})([grades])
    first, second = (np.array([values[name] for values in components]) for name in "ab")
    expected = (first - first.mean()) / first.std() + 0.5 * (second - second.mean()) / second.std()
    assert found == pytest.approx(expected / expected.std(), abs=1e-12)
    with pytest.raises(ValueError, match=r"advantage\.weights\.b=-1: give a number from 0"):
        Gdpo(weights={"b": -1})


@pytest.mark.parametrize("scale", [standard_scores, centered])
@pytest.mark.parametrize("values", [[0.3, 0.3, 0.3], [0.1 + 0.2, 0.3], [0.7], []], ids=str)
def test_values_without_spread_have_no_advantage(scale, values: list[float]) -> None:
    assert scale(values) == [0.0] * len(values)
