from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from harness.analysis.bradley_terry import log_strengths, strengths

ARMS = ("full", "sum", "base")


def test_two_arms_have_the_log_odds_of_their_votes():
    logs = log_strengths(np.array([[0, 79], [21, 0.0]]))
    assert logs[0] - logs[1] == pytest.approx(np.log(79.5 / 21.5))
    assert logs.sum() == pytest.approx(0)


def test_an_arm_that_always_wins_and_one_that_never_played_are_finite():
    logs = log_strengths(np.array([[0, 50, 0], [0, 0, 0], [0, 0, 0.0]]))
    assert np.isfinite(logs).all() and logs[0] > logs[2] > logs[1]


def test_the_order_of_the_arms_does_not_matter():
    wins = np.random.default_rng(0).integers(0, 30, (5, 5)).astype(float)
    order = [3, 0, 4, 1, 2]
    assert log_strengths(wins[np.ix_(order, order)]) == pytest.approx(log_strengths(wins)[order], abs=1e-9)


def drawn(truth: dict[str, float], prompts: int, seed: int) -> dict:
    rng, found = np.random.default_rng(seed), {}
    for x, y in combinations(truth, 2):
        rate = 1 / (1 + np.exp(truth[y] - truth[x]))
        found[x, y] = {f"p{index}": float(rng.random() < rate) for index in range(prompts)}
    return found


def test_intervals_cover_the_true_strengths_and_the_model_fits_its_own_votes():
    truth = {"full": 0.8, "sum": 0.1, "base": -0.9}
    covered, fits = 0, 0
    for seed in range(30):
        found = strengths(ARMS, drawn(truth, 200, seed))
        assert found is not None
        for arm, value in truth.items():
            covered += found.intervals[arm].low < value < found.intervals[arm].high
        fits += sum(pair.fits for pair in found.pairs)
    assert covered >= 77 and fits >= 77  # of 90; 85.5 expected, 4 standard errors


def test_arms_that_beat_each_other_in_a_circle_do_not_fit():
    ones = {f"p{index}": float(index % 10 < 9) for index in range(100)}
    circle = {("full", "sum"): ones, ("sum", "base"): ones, ("base", "full"): ones}
    found = strengths(ARMS, circle)
    assert found is not None
    assert [pair.observed for pair in found.pairs] == pytest.approx([0.9] * 3)
    assert not any(pair.fits for pair in found.pairs)


def test_unscored_prompts_and_pairs_are_left_out():
    votes = {("full", "sum"): {"p0": 1.0, "p1": None, "p2": 0.5}, ("sum", "base"): {"p0": None}}
    found = strengths(ARMS, votes)
    assert found is not None and len(found.pairs) == 1
    assert found.pairs[0].observed == pytest.approx(0.75)
    assert strengths(ARMS, {("full", "sum"): {"p0": None}}) is None
