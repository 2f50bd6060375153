"""Agreement with the published table in one number: do the arms come in the paper's order?"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

import numpy as np

from harness.analysis.statistics import ALPHA, RESAMPLES, Interval
from harness.analysis.study import Analysis

LEAST_ARMS = 3  # two arms come in one order or the other: no correlation
_SEED = 20_250_522
_BLOCK = 2_000_000  # numbers held at once: 16 MB


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Spearman's `rho` between the mean scores of `arms` arms, ours and the published.

    A mean is over the published columns that we measured. `interval` holds for new prompts. `alike` of the
    `pairs` of arms are ordered as published.
    """

    rho: float
    interval: Interval
    arms: int
    alike: int
    pairs: int


@lru_cache(maxsize=1)  # the table and the head of a report show the same numbers
def agreement(analysis: Analysis) -> Agreement | None:
    """Return the agreement over the arms with all numbers; None with fewer than three, or all equal."""
    published = analysis.published
    columns = [name for name in analysis.columns if any(name in row for row in published.values())]
    arms = []
    for arm in analysis.arms:
        measured = all(analysis.estimate(arm, column).mean is not None for column in columns)
        if measured and set(columns) <= published.get(arm, {}).keys():
            arms.append(arm)
    if not columns or len(arms) < LEAST_ARMS:
        return None
    theirs = np.array([np.mean([published[arm][column] for column in columns]) for arm in arms])
    scores = [_scores(analysis, arms, column) for column in columns]
    ours = _macro_means(scores)
    if np.ptp(theirs) == 0 or np.ptp(ours) == 0:
        return None
    pairs = list(combinations(range(len(arms)), 2))
    alike = sum(bool(np.sign(ours[a] - ours[b]) == np.sign(theirs[a] - theirs[b])) for a, b in pairs)
    return Agreement(
        rho=float(_rho(ours, theirs)),
        interval=_interval(scores, theirs),
        arms=len(arms),
        alike=alike,
        pairs=len(pairs),
    )


def _scores(analysis: Analysis, arms: list[str], column: str) -> np.ndarray:
    """Return the prompt means of a column (prompts, arms), NaN where an arm left a prompt unscored."""
    means = [analysis.means(arm, column) for arm in arms]
    prompts = sorted({prompt for by_prompt in means for prompt in by_prompt})
    return np.array([[by_prompt.get(prompt) for by_prompt in means] for prompt in prompts], dtype=float)


def _macro_means(scores: list[np.ndarray]) -> np.ndarray:
    """Return the mean over columns of the mean over scored prompts (..., arms), from (..., prompts, arms)."""
    means = []
    for values in scores:
        with np.errstate(invalid="ignore"):  # a resample may hold no scored prompt of an arm
            means.append(np.nansum(values, axis=-2) / (~np.isnan(values)).sum(axis=-2))
    return np.mean(means, axis=0)


def _rho(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Return Spearman's rho of `ours` (..., arms) with `theirs` (arms,); 0 where ours have no order."""
    from scipy.stats import rankdata

    left, right = rankdata(ours, axis=-1), rankdata(theirs)
    left, right = left - left.mean(axis=-1, keepdims=True), right - right.mean()
    size = np.sqrt((left**2).sum(axis=-1) * (right**2).sum())
    return np.divide(left @ right, size, out=np.zeros_like(size), where=size > 0)


def _interval(scores: list[np.ndarray], theirs: np.ndarray) -> Interval:
    """Percentile bootstrap interval of rho: prompts are resampled within columns, jointly for all arms."""
    from scipy.stats import bootstrap  # a slow import, which planning does not need

    if min(map(len, scores)) < 2:
        return Interval(low=None, high=None)

    def statistic(*prompts: np.ndarray, axis: int) -> np.ndarray:
        return _rho(
            _macro_means([values[drawn] for values, drawn in zip(scores, prompts, strict=True)]), theirs
        )

    interval = bootstrap(
        tuple(np.arange(len(values)) for values in scores),
        statistic,
        n_resamples=RESAMPLES,
        batch=max(1, _BLOCK // sum(values.size for values in scores)),
        confidence_level=1 - ALPHA,
        method="percentile",
        vectorized=True,
        rng=np.random.default_rng([_SEED, len(theirs)]),
    ).confidence_interval
    return Interval(low=float(interval.low), high=float(interval.high))
