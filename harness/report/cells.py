"""The cells of score tables: how numbers, intervals, arms and gaps are shown."""

from __future__ import annotations

from harness.analysis.contrasts import Comparison
from harness.analysis.statistics import ALPHA, Estimate, Interval
from harness.analysis.study import Analysis
from harness.report.table import Shown, Value

COMPARISON_FIELDS = ("effect", "low", "high", "p", "prompts", "excluded_prompts", "reason")


def signed(value: float, digits: int = 3) -> str:
    """Return a number with its sign, a typographic minus where it is negative."""
    return f"{value:+.{digits}f}".replace("-", "−")


def span(interval: Interval, *, sign: bool = False, digits: int = 3) -> str:
    """Return the bounds of an interval."""
    if interval.low is None or interval.high is None:
        return "no interval"
    if sign:
        return f"{signed(interval.low, digits)} to {signed(interval.high, digits)}"
    return f"{interval.low:.{digits}f} to {interval.high:.{digits}f}"


def p_text(p: float) -> str:
    """Return a p-value with four digits."""
    return f"{p:.4f}" if p >= 0.0001 else "<0.0001"


def missing_cell(analysis: Analysis, arm: str, category: str) -> Shown:
    """Return the cell of an arm without a number: the reason."""
    return Shown(analysis.absence(arm, category), tone="missing")


def arm_cell(analysis: Analysis, arm: str) -> Shown:
    """Return the arm's name, with the number of seeds behind its numbers where some are missing."""
    measured, planned = len(analysis.measured_cells(arm)), len(analysis.study.cells_of(arm))
    if 0 < measured < planned:
        return Shown(f"{arm} ({measured} of {planned} seeds; {analysis.state(arm)})", tone="name")
    return Shown(arm, tone="name")


def difference_cell(comparison: Comparison | str) -> Shown:
    """Return a difference with its interval and p, or the reason why there is none."""
    if isinstance(comparison, str):
        return Shown(comparison, tone="missing")
    tone = "quiet"
    if comparison.p < ALPHA:
        tone = "good" if comparison.effect > 0 else "bad"
    interval = span(comparison.interval, sign=True)
    return Shown(f"{signed(comparison.effect)} ({interval}) p {p_text(comparison.p)}", tone=tone)


def estimate_text(estimate: Estimate) -> str:
    """Return a mean with its interval, or that there is none."""
    return "unscored" if estimate.mean is None else f"{estimate.mean:.3f} ({span(estimate.interval)})"


def estimate_record(estimate: Estimate) -> tuple[Value, ...]:
    """Return mean, low, high, prompts and unscored prompts."""
    return (
        estimate.mean,
        estimate.interval.low,
        estimate.interval.high,
        estimate.prompts,
        estimate.unscored,
    )


def comparison_record(comparison: Comparison | str | None) -> tuple[Value, ...]:
    """Return the values of `COMPARISON_FIELDS`; all but the reason are None without a comparison."""
    if not isinstance(comparison, Comparison):
        return (*[None] * (len(COMPARISON_FIELDS) - 1), comparison)
    interval = comparison.interval
    return (
        comparison.effect,
        interval.low,
        interval.high,
        comparison.p,
        comparison.prompts,
        comparison.excluded,
        None,
    )
