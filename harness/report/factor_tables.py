"""The tables of the factors: a row for every arm at every level."""

from __future__ import annotations

from harness.analysis.contrasts import Comparison
from harness.analysis.factors import Factor, factors_of
from harness.analysis.study import Analysis
from harness.report.cells import signed, span
from harness.report.legend import legend
from harness.report.table import Shown, Table, Value

PREFIX = "factor_"  # begins the names of these tables and figures


def factor_tables(analysis: Analysis) -> list[Table]:
    """Return a table for every factor of the study."""
    return [_table(analysis, factor) for factor in factors_of(analysis)]


def _table(analysis: Analysis, factor: Factor) -> Table:
    rows: list[tuple[Shown, ...]] = []
    records: list[tuple[Value, ...]] = []
    for point in factor.points:
        cells = (Shown(point.arm, tone="name"), Shown(point.level), Shown(f"{point.at:g}"))
        rows.append((*cells, _cell(point.gain), _cell(point.lead)))
        records.append((point.arm, point.level, point.at, *_record(point.gain), *_record(point.lead)))
    fixed = f" No level changes {', '.join(factor.fixed)}." if factor.fixed else ""
    full = factor.full or "full"
    return Table(
        name=PREFIX + factor.name,
        title=f"By {factor.label}",
        note=(
            f"Differences of the means over all categories, paired by prompt, with 95% interval.{fixed} The"
            f" last column compares {full} with the arm at the same level."
        ),
        header=("arm", "level", "at", f"minus {analysis.baseline or 'baseline'}", f"{full} minus this arm"),
        rows=tuple(rows),
        fields=(
            *("arm", "level", "at", "gain", "low", "high", "reason"),
            *("lead", "lead_low", "lead_high", "lead_reason"),
        ),
        records=tuple(records),
        legend=legend(analysis),
    )


def _cell(difference: Comparison | str | None) -> Shown:
    if difference is None:
        return Shown("–")
    if isinstance(difference, str):
        return Shown(difference, tone="missing")
    interval = difference.interval
    tone = "quiet"
    if interval.low is not None and interval.high is not None and interval.low * interval.high > 0:
        tone = "good" if difference.effect > 0 else "bad"
    return Shown(f"{signed(difference.effect)} ({span(interval, sign=True)})", tone=tone)


def _record(difference: Comparison | str | None) -> tuple[Value, ...]:
    if isinstance(difference, Comparison):
        return difference.effect, difference.interval.low, difference.interval.high, None
    return None, None, None, difference
