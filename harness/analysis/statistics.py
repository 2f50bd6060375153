"""Paired statistics over prompts: bootstrap intervals, sign-flip permutation p-values, Holm's correction.

The unit is the prompt. A prompt's value is its mean over seeds and images, so that several draws of one
prompt count as one observation (prompts are the clusters); two arms are compared by the difference at the
same prompt. Prompts that either arm left unscored are excluded from that pair and counted.
Every random number comes from a fixed seed: equal inputs give equal results to the last digit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np

ALPHA = 0.05
POWER = 0.8
RESAMPLES = 10_000
FLIPS = 20_000
EXACT_UP_TO = 14  # nonzero differences; 2**14 sign patterns are fewer than FLIPS
_SEED = 20_250_522
_BLOCK = 2_000_000  # random numbers held at once: 16 MB


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A 95% percentile bootstrap interval; None bounds with fewer than two prompts."""

    low: float | None
    high: float | None


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """The mean of one arm over the prompts that were scored, or `mean` None where none was."""

    mean: float | None
    interval: Interval
    prompts: int
    unscored: int


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A paired difference, `better` minus `than`: `effect` is the mean over `prompts` pairs, `sd` their spread.

    `excluded` counts prompts that one of the two left unscored; `p` is two-sided and uncorrected.
    """

    effect: float
    interval: Interval
    p: float
    sd: float
    prompts: int
    excluded: int


def prompt_means(values: Iterable[tuple[str, float | None]]) -> dict[str, float | None]:
    """One value per prompt from (prompt id, value or None) rows: the mean of what was scored, None where nothing was.

    The prompts come sorted by id, so that the order of the rows cannot change a result.
    """
    rows: dict[str, list[float]] = {}
    for prompt, value in values:
        scored = rows.setdefault(prompt, [])
        if value is not None:
            scored.append(value)
    return {
        prompt: math.fsum(rows[prompt]) / len(rows[prompt]) if rows[prompt] else None
        for prompt in sorted(rows)
    }


def estimate(means: Mapping[str, float | None]) -> Estimate:
    """Mean and interval of one arm's prompt means."""
    scored = np.array([value for value in means.values() if value is not None], dtype=float)
    return Estimate(
        mean=float(scored.mean()) if len(scored) else None,
        interval=bootstrap_interval(scored),
        prompts=len(scored),
        unscored=len(means) - len(scored),
    )


def compare(better: Mapping[str, float | None], than: Mapping[str, float | None]) -> Comparison | None:
    """The paired comparison of two arms' prompt means; None where they share no scored prompt."""
    prompts = sorted(better.keys() | than.keys())
    pairs = [(better.get(prompt), than.get(prompt)) for prompt in prompts]
    differences = np.array(
        [left - right for left, right in pairs if left is not None and right is not None], dtype=float
    )
    if not len(differences):
        return None
    return Comparison(
        effect=float(differences.mean()),
        interval=bootstrap_interval(differences),
        p=sign_flip_p(differences),
        sd=float(differences.std(ddof=1)) if len(differences) > 1 else 0.0,
        prompts=len(differences),
        excluded=len(prompts) - len(differences),
    )


def clustered_error(values: Sequence[float], clusters: Sequence[str]) -> float | None:
    """Standard error of the mean of `values` (n,), of which those of one cluster (a prompt's images) may be alike.

    CR1 of Cameron and Miller, "A Practitioner's Guide to Cluster-Robust Inference" (2015), for a regression on a constant;
    of clusters of equal size it is the standard error of the mean of their means. None with fewer than two clusters.
    """
    numbers = {name: number for number, name in enumerate(dict.fromkeys(clusters))}
    count = len(numbers)
    if count < 2:
        return None
    residuals = np.array(values, dtype=float) - np.mean(values)
    sums = np.bincount([numbers[name] for name in clusters], weights=residuals)
    return math.sqrt(count / (count - 1) * float(sums @ sums)) / len(residuals)


def bootstrap_interval(values: np.ndarray, *, level: float = 1 - ALPHA) -> Interval:
    """Percentile bootstrap interval of the mean of `values` (n,), 10,000 resamples of the n prompts."""
    n = len(values)
    if n < 2:
        return Interval(low=None, high=None)
    means = (
        np.concatenate([_resampling_counts(n, block) @ values for block in range(_blocks(n, RESAMPLES))]) / n
    )
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(low=float(low), high=float(high))


def sign_flip_p(differences: np.ndarray) -> float:
    """Two-sided p of "the differences (n,) are symmetric around 0", by flipping their signs.

    All sign patterns are enumerated when at most 14 differences are nonzero; otherwise 20,000 random ones
    are drawn and p = (count + 1) / (flips + 1), which is never 0. Flips as extreme as the data count as extreme.
    """
    nonzero = differences[differences != 0]
    if not len(nonzero):
        return 1.0
    reach = abs(nonzero.sum()) - 1e-9 * np.abs(nonzero).sum()  # sums equal but for rounding are ties
    if len(nonzero) <= EXACT_UP_TO:
        patterns = 1.0 - 2.0 * ((np.arange(2 ** len(nonzero))[:, None] >> np.arange(len(nonzero))) & 1)
        return float(np.mean(np.abs(patterns @ nonzero) >= reach))
    # The signs of zero differences do not matter; keeping them lets pairs of one category share their random signs.
    count = sum(
        int((np.abs(_signs(len(differences), block) @ differences) >= reach).sum())
        for block in range(_blocks(len(differences), FLIPS))
    )
    return (count + 1) / (FLIPS + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values, in the order given."""
    adjusted = [0.0] * len(p_values)
    running = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = running
    return adjusted


def prompts_needed(comparison: Comparison, *, level: float) -> int | None:
    """How many prompts would show this effect at two-sided `level` with power 0.8, were it and its spread the true ones.

    Normal approximation; None where no difference (or no spread) was seen.
    """
    if not comparison.effect or not comparison.sd:
        return None
    quantiles = NormalDist().inv_cdf(1 - level / 2) + NormalDist().inv_cdf(POWER)
    return math.ceil((quantiles * comparison.sd / comparison.effect) ** 2)


def _rows(n: int) -> int:
    return max(1, _BLOCK // n)


def _blocks(n: int, total: int) -> int:
    return math.ceil(total / _rows(n))


def _height(n: int, block: int, total: int) -> int:
    return min(_rows(n), total - block * _rows(n))


@lru_cache(maxsize=4)
def _resampling_counts(n: int, block: int) -> np.ndarray:
    """How often each of n prompts is drawn, one row per resample of this block."""
    rows = _height(n, block, RESAMPLES)
    drawn = np.random.default_rng([_SEED, n, block]).integers(0, n, (rows, n))
    flat = (drawn + n * np.arange(rows)[:, None]).ravel()
    return np.bincount(flat, minlength=rows * n).reshape(rows, n).astype(float)


@lru_cache(maxsize=4)
def _signs(n: int, block: int) -> np.ndarray:
    """Random signs, +1.0 or -1.0, one row per flip of this block."""
    rows = _height(n, block, FLIPS)
    return np.random.default_rng([_SEED, 1, n, block]).integers(0, 2, (rows, n)) * 2.0 - 1.0
