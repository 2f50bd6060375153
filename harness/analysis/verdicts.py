"""How far two judges agree on which of two arms is better: Cohen's kappa and Gwet's AC1.

A verdict on a prompt is x, tie or y: an outcome (see `harness.analysis.votes`) above, at or below 1/2. Kappa
collapses where one arm wins nearly always: judges who agree on 90 of 100 prompts may have a kappa of -0.05.
AC1 does not, so both are given.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from harness.analysis.statistics import ALPHA, RESAMPLES, Interval

VERDICTS = ("x", "tie", "y")
_SEED = 20_250_522


@dataclass(frozen=True, kw_only=True)
class VerdictAgreement:
    """The agreement of two judges on the prompts that both have scored.

    `table[i][j]` counts the prompts with the first judge's verdict i and the second's j, in the order of
    `VERDICTS`. Values are None where they are undefined.
    """

    table: tuple[tuple[int, ...], ...]
    prompts: int
    agreement: float | None
    kappa: float | None
    kappa_interval: Interval
    ac1: float | None
    ac1_interval: Interval


def verdict_agreement(
    first: Mapping[str, float | None], second: Mapping[str, float | None]
) -> VerdictAgreement:
    """Return the agreement of two judges.

    Args:
        first: the outcomes of the prompts by one judge, None where unscored.
        second: those by the other judge.
    """
    table = np.zeros((len(VERDICTS), len(VERDICTS)), int)
    for prompt, outcome in first.items():
        other = second.get(prompt)
        if outcome is not None and other is not None:
            table[_verdict(outcome), _verdict(other)] += 1
    resampled = _resampled(table)
    return VerdictAgreement(
        table=tuple(tuple(map(int, row)) for row in table),
        prompts=int(table.sum()),
        agreement=_plain(observed(table)),
        kappa=_plain(kappa(table)),
        kappa_interval=_interval(kappa(resampled)),
        ac1=_plain(ac1(table)),
        ac1_interval=_interval(ac1(resampled)),
    )


def observed(tables: np.ndarray) -> np.ndarray:
    """Return the share of agreement of tables (..., k, k), NaN for an empty one."""
    with np.errstate(invalid="ignore"):
        return np.trace(tables, axis1=-2, axis2=-1) / tables.sum((-2, -1))


def kappa(tables: np.ndarray) -> np.ndarray:
    """Return Cohen's kappa (1960) of tables (..., k, k), NaN where chance alone would always agree."""
    rows, columns = _margins(tables)
    return _above_chance(tables, (rows * columns).sum(-1))


def ac1(tables: np.ndarray) -> np.ndarray:
    """Return Gwet's AC1 (2008) of tables (..., k, k). All k categories count, used or not."""
    rows, columns = _margins(tables)
    used = (rows + columns) / 2
    return _above_chance(tables, (used * (1 - used)).sum(-1) / (tables.shape[-1] - 1))


def _above_chance(tables: np.ndarray, chance: np.ndarray) -> np.ndarray:
    """The agreement above chance as a share of what is possible."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(chance < 1, (observed(tables) - chance) / (1 - chance), np.nan)


def _margins(tables: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    with np.errstate(invalid="ignore"):
        shares = tables / tables.sum((-2, -1), keepdims=True)
    return shares.sum(-1), shares.sum(-2)


def _verdict(outcome: float) -> int:
    """The index in `VERDICTS`; an outcome equal to 1/2 but for rounding is a tie."""
    return 1 if math.isclose(outcome, 0.5) else 0 if outcome > 0.5 else 2


def _resampled(table: np.ndarray) -> np.ndarray:
    """Tables of as many prompts, drawn with replacement: (resamples, k, k), none from fewer than two."""
    prompts = int(table.sum())
    if prompts < 2:
        return np.empty((0, *table.shape))
    rng = np.random.default_rng([_SEED, prompts])
    return rng.multinomial(prompts, table.ravel() / prompts, size=RESAMPLES).reshape(-1, *table.shape)


def _interval(values: np.ndarray) -> Interval:
    """The percentile interval of the resamples for which the value is defined."""
    defined = values[~np.isnan(values)]
    if not len(defined):
        return Interval(low=None, high=None)
    low, high = np.quantile(defined, [ALPHA / 2, 1 - ALPHA / 2])
    return Interval(low=float(low), high=float(high))


def _plain(value: np.ndarray) -> float | None:
    return None if np.isnan(value) else float(value)
