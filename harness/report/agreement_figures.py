"""The figure of a study of judges."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.analysis.study import Analysis
from harness.report.agreement_tables import absence, judges, published
from harness.report.figure_style import (
    INK,
    arm_color,
    arm_rows,
    interval_line,
    missing_mark,
    panels,
    paper_mark,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_TITLES = {"tau": "Kendall's tau-b", "rho": "Spearman's rho"}


def agreement(analysis: Analysis) -> Figure | None:
    """The agreement of every judge with the reference, with its interval, and that of the paper's judges."""
    if not analysis.agreements:
        return None
    height = 0.9 + 0.26 * len(judges(analysis))
    figure, axes = panels(len(_TITLES), 2, 4.2, height, sharey=True)
    for axis, measure in zip(axes, _TITLES, strict=True):
        _panel(axis, analysis, measure)
    return figure


def _panel(axis: Axes, analysis: Analysis, measure: str) -> None:
    axis.axvline(0, color=INK, linewidth=0.8)
    for row, judge in enumerate(judges(analysis)):
        found, paper = analysis.agreements.get(judge), published(analysis, judge, measure)
        if paper is not None:
            paper_mark(axis, paper, row, 5)
        value = getattr(found, measure) if found else None
        if found is None or value is None:
            missing_mark(axis, row, str(found.reason) if found else absence(analysis, judge))
            continue
        color = arm_color(analysis, judge)
        interval_line(axis, getattr(found, f"{measure}_interval"), row, color, width=2.4, alpha=0.55)
        axis.plot(value, row, "o", color=color, markersize=5.5)
    axis.set_title(_TITLES[measure])
    axis.set_xlim(right=1.03)
    arm_rows(axis, analysis, judges(analysis))
