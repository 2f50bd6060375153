"""The figures about scores: scores, claims, and the comparison with the published numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from matplotlib import pyplot
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from harness.analysis.claims import EQUAL, HOLDS, REVERSED, UNDECIDED, ContrastResult, Verdict
from harness.analysis.contrasts import Comparison
from harness.analysis.study import Analysis
from harness.report.figure_style import (
    ACCENT,
    BAD,
    FAINT,
    GOOD,
    INK,
    PLAIN,
    QUIET,
    arm_color,
    arm_rows,
    category_title,
    horizontal_rows,
    interval_line,
    missing_mark,
    panels,
    paper_handle,
    paper_mark,
)
from harness.report.published_tables import rank_correlation

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_OUTCOME_COLORS = {HOLDS: GOOD, REVERSED: BAD, EQUAL: ACCENT, UNDECIDED: QUIET}


def scores(analysis: Analysis) -> Figure | None:
    """Score per category with intervals, one panel per category."""
    if not analysis.categories or analysis.agreements or analysis.preference:
        return None
    figure, axes = panels(len(analysis.categories), 3, 3.5, 0.6 + 0.24 * len(analysis.arms), sharey=True)
    for axis, category in zip(axes, analysis.categories, strict=True):
        _score_panel(axis, analysis, category)
    return figure


def _score_panel(axis: Axes, analysis: Analysis, category: str) -> None:
    bounds = [0.0]
    for row, arm in enumerate(analysis.arms):
        estimate = analysis.estimate(arm, category)
        if estimate.mean is None:
            missing_mark(axis, row, analysis.absence(arm, category))
            continue
        color = arm_color(analysis, arm)
        interval_line(axis, estimate.interval, row, color, width=2.4, alpha=0.55)
        axis.plot(estimate.mean, row, "o", color=color, markersize=5.5)
        values = (estimate.interval.low, estimate.mean, estimate.interval.high)
        bounds += [value for value in values if value is not None]
    if analysis.baseline in analysis.arms:
        reference = analysis.estimate(analysis.baseline, category).mean
        if reference is not None:
            axis.axvline(reference, color=QUIET, linewidth=0.9, linestyle=(0, (3, 3)), zorder=0)
    axis.set_title(category_title(analysis, category))
    low, high = min(bounds), max(0.05, *bounds)
    axis.set_xlim(low - 0.03 * (high - low), high + 0.05 * (high - low))
    arm_rows(axis, analysis, analysis.arms)


def published(analysis: Analysis) -> Figure | None:
    """Our and the paper's change against the baseline, one panel per category."""
    baseline = analysis.baseline
    arms = [arm for arm in analysis.arms if arm in analysis.published and arm != baseline]
    paper = analysis.published.get(baseline or "", {})
    categories = [category for category in analysis.columns if category in paper]
    if not arms or not categories or baseline is None or baseline not in analysis.arms:
        return None
    height = max(1.6, 0.7 + 0.26 * len(arms))  # room for the legend above few arms
    figure, axes = panels(len(categories), 3, 3.5, height, sharey=True)
    for axis, category in zip(axes, categories, strict=True):
        axis.axvline(0, color=INK, linewidth=0.8)
        for row, arm in enumerate(arms):
            if category in analysis.published[arm]:
                change = analysis.published[arm][category] - paper[category]
                paper_mark(axis, change, row + 0.16, 4.2)
            comparison = analysis.compare(arm, baseline, category)
            if isinstance(comparison, Comparison):
                _effect_mark(axis, comparison, row - 0.12, arm_color(analysis, arm))
            else:
                missing_mark(axis, row - 0.12, comparison)
        rho, _ = rank_correlation(analysis, category)
        title = category_title(analysis, category)
        axis.set_title(title if rho is None else f"{title}    rank correlation {rho:+.2f}")
        arm_rows(axis, analysis, arms)
    handles = [
        Line2D([], [], color=PLAIN, marker="o", markersize=5, linewidth=2, label="ours, 95% interval"),
        paper_handle("the paper's", 4.2),
    ]
    figure.legend(handles=handles, loc="outside upper left", ncols=2, frameon=False)
    figure.supxlabel(f"score minus {baseline}", fontsize=9, color=QUIET)
    return figure


def _effect_mark(axis: Axes, comparison: Comparison, row: float, color: str) -> None:
    interval_line(axis, comparison.interval, row, color, width=2.2, alpha=0.6)
    axis.plot(comparison.effect, row, "o", color=color, markersize=4.8)


def claims(analysis: Analysis) -> Figure | None:
    """Forest plot: a row per contrast, grouped by claim."""
    if not analysis.verdicts:
        return None
    labels: list[str] = []
    figure, axis = pyplot.subplots(figsize=(8.6, 1.3 + 0.25 * _rows_of(analysis.verdicts)))
    for verdict in analysis.verdicts:
        axis.axhline(len(labels) + 0.45, color=FAINT, linewidth=0.9)
        labels.append(verdict.claim.id)
        for result in verdict.results:
            _forest_mark(axis, result, len(labels))
            labels.append(result.contrast.label())
    axis.axvline(0, color=INK, linewidth=0.8, zorder=1)
    axis.set_yticks(range(len(labels)), labels)
    headings = {verdict.claim.id for verdict in analysis.verdicts}
    for label in axis.get_yticklabels():
        label.set_fontweight("bold" if label.get_text() in headings else "normal")
    axis.set_xlabel("difference of the two arms, the mean over the categories")
    horizontal_rows(axis, len(labels))
    figure.legend(handles=_forest_handles(), loc="outside upper left", ncols=4, frameon=False)
    return figure


def _rows_of(verdicts: Sequence[Verdict]) -> int:
    return sum(1 + len(verdict.results) for verdict in verdicts)


def _forest_mark(axis: Axes, result: ContrastResult, row: int) -> None:
    margin = result.margin.value
    axis.barh(
        row, 2 * margin, left=result.contrast.above - margin, height=1.0, color=FAINT, linewidth=0, zorder=0
    )
    if result.published_difference is not None:
        paper_mark(axis, result.published_difference, row, 4.2, zorder=4)
    if result.comparison is None:
        missing_mark(axis, row, str(result.reason))
        return
    effects = list(result.comparison.by_category.values())
    if len(effects) > 1:
        axis.plot(effects, [row] * len(effects), "|", color=QUIET, alpha=0.6, markersize=6, zorder=2)
    _effect_mark(axis, result.comparison, row, _OUTCOME_COLORS[result.outcome])


def _forest_handles() -> list[Artist]:
    handles: list[Artist] = []
    for outcome, color in _OUTCOME_COLORS.items():
        handles.append(Line2D([], [], color=color, marker="o", markersize=5, linewidth=2, label=outcome))
    handles.append(paper_handle("the paper's difference", 4.2))
    handles.append(Line2D([], [], color=QUIET, marker="|", linestyle="", label="one category"))
    handles.append(Patch(color=FAINT, label="margin"))
    return handles
