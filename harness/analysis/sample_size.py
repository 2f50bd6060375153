"""Sample sizes: which difference a design can detect, and what would decide an undecided contrast.

All with power 0.8 and the normal approximation of `harness.analysis.contrasts`, measured effect and spread
taken as true. More prompts shrink the prompt part alone and more seeds the run part alone, although each
shrinks the other a little: the true needs are at most these.
"""

from __future__ import annotations

import math
from statistics import NormalDist

from harness.analysis.contrasts import Comparison, Spread
from harness.analysis.statistics import ALPHA

POWER = 0.8
MOST_SEEDS = 100  # more than that is no answer


def detectable(spread: Spread, *, level: float = ALPHA) -> float | None:
    """Return the least difference that a test at two-sided `level` shows; None without a prompt error.

    With one seed it is a difference between the two models of this run.
    """
    if spread.prompt_error is None:
        return None
    return _width(level, POWER, spread.prompt_error, spread.run_error, spread.seeds)


def least_margin(spread: Spread) -> float | None:
    """Return the least margin within which two equal arms are shown to be equal."""
    if spread.prompt_error is None:
        return None
    return _width(2 * ALPHA, (1 + POWER) / 2, spread.prompt_error, spread.run_error, spread.seeds)


def prompts_needed(comparison: Comparison, *, margin: float, level: float) -> int | None:
    """Return the prompts per category that would decide a contrast with the seeds it has.

    An effect above `margin` is decided as a difference at two-sided `level`, and a smaller one as equal. None
    where more prompts cannot decide, because the run part is too large, or the spread is unknown or 0.
    """
    error, run_error = comparison.spread.prompt_error, comparison.spread.run_error
    seeds = comparison.spread.seeds
    aim = _aim(comparison, margin, level)
    if not error or aim is None:
        return None
    room, test_level, power = aim
    if run_error is not None and _width(test_level, power, 0.0, run_error, seeds) >= room:
        return None
    from scipy.optimize import brentq  # a slow import, which planning does not need

    most = room / _width(test_level, power, 1.0, None, 1)
    allowed = most
    if run_error:
        allowed = brentq(lambda least: _width(test_level, power, least, run_error, seeds) - room, 0.0, most)
    per_category = comparison.prompts / max(1, len(comparison.by_category))
    return math.ceil(per_category * (error / allowed) ** 2) if allowed else None


def seeds_needed(comparison: Comparison, *, margin: float, level: float) -> int | None:
    """Return the seeds that would decide a contrast with the prompts it has, as `prompts_needed`.

    None with one seed, which says nothing about the spread over runs, and where seeds alone cannot decide.
    """
    spread = comparison.spread
    aim = _aim(comparison, margin, level)
    if spread.prompt_error is None or spread.run_error is None or aim is None:
        return None
    room, test_level, power = aim
    for seeds in range(spread.seeds + 1, MOST_SEEDS + 1):
        run_error = spread.run_error * math.sqrt(spread.seeds / seeds)
        if _width(test_level, power, spread.prompt_error, run_error, seeds) <= room:
            return seeds
    return None


def _aim(comparison: Comparison, margin: float, level: float) -> tuple[float, float, float] | None:
    """Return the room for errors, the two-sided level and the power; None where there is no room."""
    effect = abs(comparison.effect - comparison.above)
    if effect > margin:
        return effect, level, POWER
    # Equality fails on either side, so each side may fail half as often.
    return (margin - effect, 2 * ALPHA, (1 + POWER) / 2) if effect < margin else None


def _width(level: float, power: float, prompt_error: float, run_error: float | None, seeds: int) -> float:
    """Return the effect that a test at two-sided `level` shows with this power."""
    from scipy.stats import t

    normal = NormalDist()
    prompt_half, run_half, error = normal.inv_cdf(1 - level / 2) * prompt_error, 0.0, prompt_error
    if run_error is not None:
        run_half, error = float(t.isf(level / 2, seeds - 1)) * run_error, math.hypot(prompt_error, run_error)
    return math.hypot(prompt_half, run_half) + normal.inv_cdf(power) * error
