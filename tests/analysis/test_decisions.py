"""How often the rules of contrasts are wrong, on simulated studies whose truth is known.

Scores are 0, 0.5 or 1, so many differences are tied, and every arm leaves prompts unscored. With several
seeds the truth is the effect of training; with one seed it is that of the run itself.

    HYPOTHESIS_PROFILE=long python -m pytest tests/analysis/test_decisions.py  # more and larger studies
"""

from __future__ import annotations

import os

import numpy as np
import pytest
from scipy.stats import t

from harness.analysis import statistics
from harness.analysis.claims import EQUAL, HOLDS, REVERSED, UNDECIDED, outcome
from harness.analysis.contrasts import (
    Comparison,
    compare,
    half_width,
    measure_spread,
    prompt_part,
    run_part,
    seed_effects,
)
from harness.analysis.statistics import ALPHA, Interval

LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"
STUDIES, PROMPTS = (4000, 200) if LONG else (600, 30)
CATEGORIES = 6
MARGIN = 0.06 if LONG else 0.15  # some four standard errors of one seed, so that equality can be found
EFFECTS = {"none": 0.0, "half": MARGIN / 2, "margin": MARGIN, "twice": 2 * MARGIN}
BLOCK = 200  # studies held at once


def arm(random: np.random.Generator, chance: np.ndarray) -> np.ndarray:
    """Scores 0, 0.5 and 1 with the expectation `chance`; a share of 3% is unscored."""
    scores = (random.random(chance.shape) < chance) / 2 + (random.random(chance.shape) < chance) / 2
    return np.where(random.random(chance.shape) < 0.03, np.nan, scores)


def simulated(
    random: np.random.Generator, studies: int, seeds: int, run_sd: float, effect: float
) -> list[np.ndarray]:
    """The differences of two arms: an array (studies, seeds, prompts) of each category.

    Prompts differ in difficulty and in what the better arm gains on them, and runs in their effect. The
    chances stay within 0 and 1, so the expected difference is `effect` on average.
    """
    runs = np.clip(run_sd * random.standard_normal((studies, seeds, 1)), -3 * run_sd, 3 * run_sd)
    strata = []
    for _ in range(CATEGORIES):
        difficulty = random.uniform(0.3, 0.45, (studies, 1, PROMPTS))
        gain = random.uniform(-0.1, 0.1, (studies, 1, PROMPTS))
        chance = np.broadcast_to(difficulty, (studies, seeds, PROMPTS))
        strata.append(arm(random, chance + effect + gain + runs) - arm(random, chance))
    return strata


def limit(rate: float, studies: int) -> float:
    """What a rate of `rate` stays below but for once in some 3000 simulations."""
    return rate + 3.4 * (rate * (1 - rate) / studies) ** 0.5


def check(effect: float, centers: np.ndarray, lows: dict, highs: dict, significant: np.ndarray) -> float:
    """Checks the decisions of studies: `lows` and `highs` are the bounds at 5 and 10%.

    Returns the share of correct decisions: equal without an effect, else holds.
    """
    studies = len(centers)
    equal = ~significant & (lows[0.1] > -MARGIN) & (highs[0.1] < MARGIN)
    if effect == 0:
        assert significant.mean() <= limit(ALPHA, studies)
    assert (significant & (centers < 0)).mean() <= limit(ALPHA, studies)
    if effect >= MARGIN:
        assert equal.mean() <= limit(ALPHA, studies)
    covered = (lows[0.05] <= effect) & (effect <= highs[0.05])
    assert 1 - covered.mean() <= limit(0.06, studies)
    if LONG:
        print(
            f"significant {significant.mean():.3f} equal {equal.mean():.3f} covered {covered.mean():.3f}",
            end=" ",
        )
    return float((significant & (centers > 0)).mean() if effect else equal.mean())


@pytest.mark.parametrize("effect", EFFECTS.values(), ids=EFFECTS)
@pytest.mark.parametrize("run_sd", [0.0, 0.01, 0.02, 0.04])
@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_decisions_over_training_runs_are_seldom_wrong(seeds, run_sd, effect):
    random = np.random.default_rng([seeds, int(1000 * run_sd), int(1000 * effect)])
    centers, halves = [], {0.05: [], 0.1: []}
    for _ in range(STUDIES // BLOCK):
        strata = simulated(random, BLOCK, seeds, run_sd, effect)
        by_seed = seed_effects(strata)
        error, df = prompt_part(strata)
        centers.append(by_seed.mean(axis=-1))
        for level, widths in halves.items():
            widths.append(half_width(level, error, df, run_part(by_seed), seeds))
    center = np.concatenate(centers)
    half = {level: np.concatenate(widths) for level, widths in halves.items()}
    lows = {level: center - widths for level, widths in half.items()}
    highs = {level: center + widths for level, widths in half.items()}
    right = check(effect, center, lows, highs, np.abs(center) > half[0.05])
    if seeds > 2 and run_sd <= 0.01 and effect in (0, 2 * MARGIN):
        assert right > 0.8


def test_these_decisions_are_those_of_a_report():
    """`compare` and `outcome` decide each study as the arrays above do."""
    strata = simulated(np.random.default_rng(7), 60, 3, 0.01, MARGIN / 2)
    by_seed, (error, df) = seed_effects(strata), prompt_part(strata)
    center = by_seed.mean(axis=-1)
    half, half_90 = (half_width(level, error, df, run_part(by_seed), 3) for level in (0.05, 0.1))
    found = []
    for number in range(60):
        comparison = compare({str(name): values[number] for name, values in enumerate(strata)})
        assert isinstance(comparison, Comparison)
        found.append(outcome(comparison, comparison.p, MARGIN))
    expected = np.where(np.abs(center) + half_90 < MARGIN, EQUAL, UNDECIDED)
    expected = np.where(center > half, HOLDS, np.where(center < -half, REVERSED, expected))
    assert found == expected.tolist()
    assert len(set(found)) > 1


def permuted_p(weighted: np.ndarray) -> np.ndarray:
    """`sign_flip_p` of many studies (studies, prompts) of more than 14 nonzero differences."""
    n, count = weighted.shape[1], 0
    reach = np.abs(weighted.sum(axis=1)) - 1e-9 * np.abs(weighted).sum(axis=1)
    for block in range(-(-statistics.FLIPS // statistics._rows(n))):
        count = count + (np.abs(statistics._signs(n, block) @ weighted.T) >= reach).sum(axis=0)
    return (count + 1) / (statistics.FLIPS + 1)


def resampled_means(strata: list[np.ndarray]) -> np.ndarray:
    """The resampled means (resamples, studies) of `stratified_intervals`, of strata (studies, prompts).

    All studies have the same numbers of prompts, so the same prompts are drawn in each.
    """
    n = sum(values.shape[1] for values in strata)
    random, rows, means = np.random.default_rng([statistics._SEED, n, 0]), statistics._rows(n), []
    for start in range(0, statistics.RESAMPLES, rows):
        size = min(rows, statistics.RESAMPLES - start)
        total = 0.0
        for values in strata:
            prompts = values.shape[1]
            drawn = random.integers(0, prompts, (size, prompts))
            counts = np.zeros((size, prompts))
            np.add.at(counts, (np.arange(size)[:, None], drawn), 1.0)
            total = total + counts @ values.T / prompts
        means.append(total / len(strata))
    return np.concatenate(means)


def scored_pairs(strata: list[np.ndarray], keep: int) -> list[np.ndarray]:
    """The first `keep` scored differences of every study of one seed, (studies, keep)."""
    kept = []
    for values in strata:
        rows = values[:, 0]
        order = np.argsort(np.isnan(rows), axis=1, kind="stable")[:, :keep]
        kept.append(np.take_along_axis(rows, order, axis=1))
        assert not np.isnan(kept[-1]).any()
    return kept


@pytest.mark.parametrize("effect", EFFECTS.values(), ids=EFFECTS)
def test_decisions_about_one_run_are_seldom_wrong(effect):
    random = np.random.default_rng(int(1000 * effect))
    keep = int(0.75 * PROMPTS)
    strata = scored_pairs(simulated(random, STUDIES, 1, 0.0, effect), keep)
    centers = np.mean([values.mean(axis=1) for values in strata], axis=0)
    means = resampled_means(strata)
    bounds = np.quantile(means, [0.025, 0.05, 0.95, 0.975], axis=0)
    lows, highs = {0.05: bounds[0], 0.1: bounds[1]}, {0.05: bounds[3], 0.1: bounds[2]}
    p = permuted_p(np.concatenate(strata, axis=1) / (keep * CATEGORIES))
    right = check(effect, centers, lows, highs, p < ALPHA)
    if effect in (0, 2 * MARGIN):
        assert right > 0.8
    for number in range(3):
        found = compare({str(name): values[number : number + 1] for name, values in enumerate(strata)})
        assert isinstance(found, Comparison)
        assert found.p == pytest.approx(p[number], abs=1e-12)
        for interval, level in ((found.interval, 0.05), (found.equivalence, 0.1)):
            assert interval == Interval(
                low=pytest.approx(lows[level][number], abs=1e-12),
                high=pytest.approx(highs[level][number], abs=1e-12),
            )


def test_prompts_alone_would_claim_too_much():
    """The rule matters: without the run part, three runs that differ by 0.04 give false differences."""
    strata = simulated(np.random.default_rng(3), 400, 3, 0.04, 0.0)
    error, df = prompt_part(strata)
    half = half_width(ALPHA, error, df, 0.0 * error, 3)
    assert (np.abs(seed_effects(strata).mean(axis=-1)) > half).mean() > 0.15
    assert measure_spread([values[0] for values in strata]).run_error is not None


def test_the_degrees_of_freedom_of_satterthwaite_would_cover_too_little():
    """The rule that `harness.analysis.contrasts` did not take: t of the summed variance."""
    strata = simulated(np.random.default_rng(4), 1000, 2, 0.06, 0.0)
    by_seed, (error, df) = seed_effects(strata), prompt_part(strata)
    variances, freedom = np.array([error**2, run_part(by_seed) ** 2]), np.array([df, np.ones_like(df)])
    total = variances.sum(axis=0)
    joint = total**2 / (variances**2 / freedom).sum(axis=0)
    center = np.abs(by_seed.mean(axis=-1))
    assert (center <= t.isf(ALPHA / 2, joint) * total**0.5).mean() < 0.92
    assert (center <= half_width(ALPHA, error, df, run_part(by_seed), 2)).mean() > 0.94
