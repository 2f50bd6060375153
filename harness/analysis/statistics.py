"""Statistics over prompts: bootstrap intervals, sign-flip permutation p-values, Holm's correction.

The unit is the prompt. The value of a prompt is its mean over seeds and images, so several samples of one
prompt count as one observation (prompts are the clusters). `harness.analysis.contrasts` compares two arms.
Every random number comes from a fixed seed: equal inputs give equal results to the last digit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

ALPHA = 0.05
RESAMPLES = 10_000
FLIPS = 20_000
EXACT_UP_TO = 14  # nonzero differences; 2**14 sign patterns are fewer than FLIPS
_SEED = 20_250_522
_BLOCK = 2_000_000  # random numbers held at once: 16 MB


@dataclass(frozen=True, kw_only=True)
class Interval:
    """An interval of a mean, 95% unless stated otherwise; None bounds with fewer than two prompts."""

    low: float | None
    high: float | None


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """The mean of one arm over its scored prompts; `mean` is None when no prompt is scored."""

    mean: float | None
    interval: Interval
    prompts: int
    unscored: int


def prompt_means(values: Iterable[tuple[str, float | None]]) -> dict[str, float | None]:
    """Return the mean of each prompt's scored values, None where a prompt has no scored value.

    Args:
        values: rows of (prompt id, value or None), in any order.

    The prompts come sorted by id, so the order of the rows cannot change a result.
    """
    scored_by_prompt: dict[str, list[float]] = {}
    for prompt, value in values:
        scored = scored_by_prompt.setdefault(prompt, [])
        if value is not None:
            scored.append(value)
    means: dict[str, float | None] = {}
    for prompt, scored in sorted(scored_by_prompt.items()):
        means[prompt] = math.fsum(scored) / len(scored) if scored else None
    return means


def estimate(means: Mapping[str, float | None]) -> Estimate:
    """Return the mean of one arm's prompt means with its interval."""
    scored = np.array([value for value in means.values() if value is not None], dtype=float)
    return Estimate(
        mean=float(scored.mean()) if len(scored) else None,
        interval=bootstrap_interval(scored),
        prompts=len(scored),
        unscored=len(means) - len(scored),
    )


def clustered_error(values: Sequence[float], clusters: Sequence[str]) -> float | None:
    """Standard error of the mean of `values` (n,), where values of one cluster (a prompt) may be correlated.

    CR1 of Cameron and Miller, "A Practitioner's Guide to Cluster-Robust Inference" (2015), for a regression
    on a constant. With clusters of equal size it is the standard error of the mean of the cluster means.
    None with fewer than two clusters.
    """
    numbers = {name: number for number, name in enumerate(dict.fromkeys(clusters))}
    count = len(numbers)
    if count < 2:
        return None
    residuals = np.array(values, dtype=float) - np.mean(values)
    sums = np.bincount([numbers[name] for name in clusters], weights=residuals)
    return math.sqrt(count / (count - 1) * float(sums @ sums)) / len(residuals)


def macro_estimate(means_by_category: Sequence[Mapping[str, float | None]]) -> Estimate:
    """Return the mean of the categories' means, each over its scored prompts; `mean` is None if one has none.

    Args:
        means_by_category: the prompt means of each category. Every category weighs the same.
    """
    strata = []
    for means in means_by_category:
        strata.append(np.array([value for value in means.values() if value is not None], dtype=float))
    scored = sum(map(len, strata))
    return Estimate(
        mean=float(np.mean([values.mean() for values in strata]))
        if strata and all(map(len, strata))
        else None,
        interval=stratified_interval(strata),
        prompts=scored,
        unscored=sum(map(len, means_by_category)) - scored,
    )


def bootstrap_interval(values: np.ndarray) -> Interval:
    """Percentile bootstrap interval of the mean of `values` (n,), from 10,000 resamples of the n prompts."""
    return stratified_interval([values])


def stratified_interval(strata: Sequence[np.ndarray]) -> Interval:
    """95% percentile bootstrap interval of the mean of the means of `strata`, arrays of shape (prompts,).

    Prompts are resampled within their stratum, 10,000 times. A stratum (a category) with fewer than two
    prompts has no interval, and neither have the strata together.
    """
    return stratified_intervals(strata, (1 - ALPHA,))[0]


def stratified_intervals(strata: Sequence[np.ndarray], confidences: Sequence[float]) -> list[Interval]:
    """Return a `stratified_interval` for each confidence, all from the same resamples."""
    from scipy.stats import bootstrap  # a slow import, which planning does not need

    n = sum(map(len, strata))
    if not strata or min(map(len, strata)) < 2:
        return [Interval(low=None, high=None)] * len(confidences)
    intervals, result = [], None
    for confidence in confidences:
        result = bootstrap(
            tuple(strata),
            _mean_of_means,
            n_resamples=0 if result else RESAMPLES,
            batch=_rows(n),
            confidence_level=confidence,
            method="percentile",
            vectorized=True,
            rng=np.random.default_rng([_SEED, n, 0]),
            bootstrap_result=result,
        )
        bounds = result.confidence_interval
        intervals.append(Interval(low=float(bounds.low), high=float(bounds.high)))
    return intervals


def _mean_of_means(*strata: np.ndarray, axis: int) -> np.ndarray:
    return sum(values.mean(axis=axis) for values in strata) / len(strata)


def sign_flip_p(differences: np.ndarray) -> float:
    """Two-sided p of "the differences (n,) are symmetric around 0", by flipping their signs.

    With at most 14 nonzero differences every sign pattern is enumerated. Otherwise 20,000 random patterns are
    drawn and p = (count + 1) / (flips + 1), which is never 0. A pattern as extreme as the data counts.
    """
    # Not scipy.stats.permutation_test: it takes ties only within rounding of the observed sum, so differences
    # whose sum cancels (0.1 + 0.2 - 0.3) get another p; and its random signs would change every published p.
    nonzero = differences[differences != 0]
    if not len(nonzero):
        return 1.0
    reach = abs(nonzero.sum()) - 1e-9 * np.abs(nonzero).sum()  # sums equal but for rounding are ties
    if len(nonzero) <= EXACT_UP_TO:
        patterns = 1.0 - 2.0 * ((np.arange(2 ** len(nonzero))[:, None] >> np.arange(len(nonzero))) & 1)
        return float(np.mean(np.abs(patterns @ nonzero) >= reach))
    # Signs of zero differences do not matter. Keeping them lets all pairs of a category share random signs.
    n, count = len(differences), 0
    for block in range(math.ceil(FLIPS / _rows(n))):
        count += int((np.abs(_signs(n, block) @ differences) >= reach).sum())
    return (count + 1) / (FLIPS + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's step-down adjusted p-values, in the given order."""
    adjusted = [0.0] * len(p_values)
    running = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = running
    return adjusted


def _rows(n: int) -> int:
    return max(1, _BLOCK // n)


@lru_cache(maxsize=4)
def _signs(n: int, block: int) -> np.ndarray:
    """Random signs, +1.0 or -1.0: one row of n for each flip of this block."""
    rows = min(_rows(n), FLIPS - block * _rows(n))
    return np.random.default_rng([_SEED, 1, n, block]).integers(0, 2, (rows, n)) * 2.0 - 1.0
