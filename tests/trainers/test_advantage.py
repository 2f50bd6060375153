"""Group advantages against numpy."""

from __future__ import annotations

import numpy as np
import pytest

from harness.trainers.advantage import group_advantages


def test_advantages_are_standard_scores_of_the_group() -> None:
    totals = [0.1, 0.9, 0.4, 0.4, 0.0]
    values = np.array(totals)
    found = group_advantages(totals)
    assert not found.zero_spread
    assert found.values == pytest.approx((values - values.mean()) / values.std(), abs=1e-12)


def test_unscored_samples_neither_get_nor_give_anything() -> None:
    scored = np.array([0.2, 0.8, 0.5])
    found = group_advantages([0.2, None, 0.8, None, 0.5])
    assert found.values[1] is None and found.values[3] is None
    known = [value for value in found.values if value is not None]
    assert known == pytest.approx((scored - scored.mean()) / scored.std(), abs=1e-12)
    assert not found.zero_spread


@pytest.mark.parametrize(
    ("totals", "values"),
    [
        ([0.3, 0.3, 0.3], (0.0, 0.0, 0.0)),
        ([0.1 + 0.2, 0.3], (0.0, 0.0)),  # equal but for rounding
        ([0.3, None, 0.3], (0.0, None, 0.0)),
        ([0.7, None], (0.0, None)),
        ([None, None], (None, None)),
    ],
)
def test_groups_without_spread_say_so_and_have_no_advantage(
    totals: list[float | None], values: tuple[float | None, ...]
) -> None:
    found = group_advantages(totals)
    assert found.zero_spread
    assert found.values == values
