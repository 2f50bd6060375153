"""Expected scores: the exact distribution over 0..10 from what stands at two places."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.experts.judge.expected import expected_score


@pytest.mark.parametrize(
    ("first", "after_one", "mean", "mass"),
    [
        ({"7": 1.0}, None, 7, 1),
        ({"7": 0.25, "9": 0.25, "x": 0.5}, None, 8, 0.5),
        ({" 7": 0.5, "7": 0.5}, None, 7, 1),
        ({"1": 1.0}, {"0": 0.3, "}": 0.1, "5": 0.6}, 0.75 * 10 + 0.25, 1),
        ({"1": 0.5, "10": 0.5}, None, 5.5, 1),
        ({"1": 1.0}, {"5": 1.0}, 1, 1),
        ({"1": 1.0}, {"0": 0.5, "},": 0.25, ".": 0.25}, 5.5, 1),
        ({"11": 1.0, "07": 1.0, "-1": 1.0, "٣": 1.0, "²": 1.0, "": 1.0}, None, None, 0),
        ({}, None, None, 0),
    ],
)
def test_the_mean_is_over_what_is_a_score(first, after_one, mean, mass):
    assert expected_score(first, after_one) == (
        pytest.approx(mean) if mean is not None else None,
        pytest.approx(mass),
    )


@given(
    st.dictionaries(st.sampled_from([*"0123456789", "a", "}"]), st.floats(0, 1)),
    st.dictionaries(st.sampled_from(["0", "}", "9"]), st.floats(0, 1)),
)
def test_it_stays_on_the_scale(first, after_one):
    mean, mass = expected_score(first, after_one)
    assert (mean is None) == (mass == 0)
    assert mean is None or -1e-9 <= mean <= 10 + 1e-9
