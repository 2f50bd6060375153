"""Advantages that read components, and those over a whole step, against plain loops."""

from __future__ import annotations

import statistics

import pytest

from harness.trainers.advantage import Gdpo, divided_by_step
from harness.types import Grade

GROUPS = [
    [{"pi": 0.2, "sem": 0.9}, {"pi": 0.7, "sem": 0.4}, {"pi": 0.4, "sem": 0.4}],
    [{"pi": 0.5, "sem": 0.1}, {"pi": 0.5, "sem": 0.8}],  # pi is equal
    [{"pi": 0.3, "sem": 0.6}, {"pi": 0.3, "sem": 0.6}],  # everything is equal
    [{"pi": 0.9, "sem": 0.2}],
    [],
]
WEIGHTS = {"pi": 2.0, "sem": 0.5}


def graded(groups: list[list[dict[str, float]]]) -> list[list[Grade]]:
    return [[Grade(total=0.0, components=sample) for sample in group] for group in groups]


def naive(weights: dict[str, float]) -> list[list[float]]:
    sums = []
    for group in GROUPS:
        row = [0.0] * len(group)
        for name, weight in weights.items():
            values = [sample[name] for sample in group]
            deviation = statistics.pstdev(values) if values else 0.0
            if deviation > 1e-8:
                for index, value in enumerate(values):
                    row[index] += weight * (value - statistics.fmean(values)) / deviation
        sums.append(row)
    deviation = statistics.pstdev([value for row in sums for value in row])
    return [[value / deviation for value in row] for row in sums]


@pytest.mark.parametrize("weights", [WEIGHTS, {"pi": 1.0, "sem": 1.0}, {"pi": 1.0, "sem": 0.0}])
def test_components_are_normalized_weighted_and_added(weights: dict[str, float]) -> None:
    found = Gdpo(weights=weights)(graded(GROUPS))
    for row, expected in zip(found, naive(weights), strict=True):
        assert row == pytest.approx(expected, abs=1e-12)
    assert found[2:] == [[0.0, 0.0], [0.0], []]


def test_a_component_without_a_weight_has_weight_1() -> None:
    assert Gdpo(weights={"pi": 2.0})(graded(GROUPS)) == Gdpo(weights={"pi": 2.0, "sem": 1.0})(graded(GROUPS))


def test_the_total_does_not_count() -> None:
    other = [[Grade(total=len(row), components=row) for row in group] for group in GROUPS]
    assert Gdpo(weights=WEIGHTS)(other) == Gdpo(weights=WEIGHTS)(graded(GROUPS))
    assert not Gdpo.uses_total


def test_a_step_without_spread_has_no_advantage() -> None:
    assert Gdpo(weights={})(graded([GROUPS[2], GROUPS[3]])) == [[0.0, 0.0], [0.0]]
    assert Gdpo(weights={})([]) == []
    equal = [[0.3, 0.1 + 0.2], [0.3]]
    assert divided_by_step([[1.0, -1.0], [0.5]], equal) == [[0.0, 0.0], [0.0]]
    assert divided_by_step([[1.0, -1.0], [0.5]], [[0.3], []]) == [[0.0, 0.0], [0.0]]


def test_a_negative_weight_is_refused() -> None:
    with pytest.raises(ValueError, match=r"advantage\.weights\.pi=-1"):
        Gdpo(weights={"pi": -1})
