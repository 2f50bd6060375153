"""Strengths of several arms from the votes on all their pairs: the model of Bradley and Terry (1952).

Arm i beats arm j with probability s_i / (s_i + s_j). One virtual tie per pair keeps the strength of an arm
that always wins finite.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.analysis.statistics import ALPHA, Interval

RESAMPLES = 2_000
VIRTUAL = 0.5  # wins each way of every pair
_SEED = 20_250_522
_STEPS, _CLOSE = 100_000, 1e-12

Outcomes = Mapping[tuple[str, str], Mapping[str, float | None]]  # (x, y) -> prompt -> outcome of x


@dataclass(frozen=True, kw_only=True)
class PairFit:
    """The observed rate at which `x` wins against `y`, and the interval of the rate that the model gives."""

    x: str
    y: str
    observed: float
    interval: Interval

    @property
    def fits(self) -> bool:
        """Whether the observed rate lies in the interval of the model."""
        low, high = self.interval.low, self.interval.high
        return low is None or high is None or low <= self.observed <= high


@dataclass(frozen=True, kw_only=True)
class Strengths:
    """The log strengths of arms, with mean 0, their 95% intervals by prompt, and the fit of each pair."""

    log_strength: Mapping[str, float]
    intervals: Mapping[str, Interval]
    pairs: tuple[PairFit, ...]


def log_strengths(wins: np.ndarray) -> np.ndarray:
    """Return the log strengths (..., k), with mean 0, of the most likely model.

    Args:
        wins: (..., k, k); wins[i, j] is the sum of the outcomes of arm i against arm j. The virtual ties are
            added here.

    The iteration is that of Hunter, "MM algorithms for generalized Bradley-Terry models" (2004), which
    converges from any start.
    """
    arms = wins.shape[-1]
    beaten = (wins + VIRTUAL) * ~np.eye(arms, dtype=bool)
    played, won = beaten + np.swapaxes(beaten, -1, -2), beaten.sum(-1)
    logs = np.zeros(won.shape)
    for _ in range(_STEPS):
        scale = np.exp(logs)
        together = scale[..., :, None] + scale[..., None, :]
        new = np.log(won / (played / together).sum(-1))
        new -= new.mean(-1, keepdims=True)
        moved, logs = np.abs(new - logs).max(initial=0.0), new
        if moved < _CLOSE:
            break
    return logs


def strengths(arms: Sequence[str], outcomes: Outcomes) -> Strengths | None:
    """Return the strengths of arms from the outcomes of pairs of them; None without a scored prompt.

    Args:
        arms: their names.
        outcomes: the outcomes of the prompts of each pair that was asked, in [0, 1] or None.
    """
    scored = {pair: _scored(found) for pair, found in outcomes.items() if _scored(found)}
    if not scored:
        return None
    prompts = sorted(set().union(*scored.values()))
    values = np.array([[found.get(prompt, np.nan) for prompt in prompts] for found in scored.values()])
    places = [(arms.index(x), arms.index(y)) for x, y in scored]
    once = np.ones((1, len(prompts)))
    logs = log_strengths(_wins(values, once, places, len(arms)))[0]
    rng = np.random.default_rng([_SEED, len(prompts)])
    drawn = rng.multinomial(len(prompts), np.full(len(prompts), 1 / len(prompts)), size=RESAMPLES)
    resampled = log_strengths(_wins(values, drawn, places, len(arms)))
    fits = []
    for (x, y), (i, j), row in zip(scored, places, values, strict=True):
        rates = 1 / (1 + np.exp(resampled[:, j] - resampled[:, i]))
        fits.append(PairFit(x=x, y=y, observed=float(np.nanmean(row)), interval=_interval(rates)))
    return Strengths(
        log_strength={arm: float(value) for arm, value in zip(arms, logs, strict=True)},
        intervals={arm: _interval(column) for arm, column in zip(arms, resampled.T, strict=True)},
        pairs=tuple(fits),
    )


def _scored(outcomes: Mapping[str, float | None]) -> dict[str, float]:
    return {prompt: outcome for prompt, outcome in outcomes.items() if outcome is not None}


def _wins(values: np.ndarray, times: np.ndarray, places: Sequence[tuple[int, int]], arms: int) -> np.ndarray:
    """The wins (resamples, arms, arms) where each prompt counts so many times.

    Args:
        values: outcomes (pairs, prompts), NaN where unscored.
        times: (resamples, prompts).
        places: the arms of each pair, as indices.
        arms: their number.
    """
    wins = np.zeros((len(times), arms, arms))
    for (i, j), row in zip(places, values, strict=True):
        scored = ~np.isnan(row)
        won = times[:, scored] @ row[scored]
        wins[:, i, j] += won
        wins[:, j, i] += times[:, scored].sum(1) - won
    return wins


def _interval(values: np.ndarray) -> Interval:
    low, high = np.quantile(values, [ALPHA / 2, 1 - ALPHA / 2])
    return Interval(low=float(low), high=float(high))
