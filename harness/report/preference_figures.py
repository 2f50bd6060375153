"""The figure of a preference study."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from harness.analysis.preference import Pair, Preference
from harness.analysis.study import Analysis
from harness.report.figure_style import (
    ACCENT,
    FAINT,
    INK,
    QUIET,
    horizontal_rows,
    missing_mark,
    panels,
    paper_handle,
    paper_mark,
)
from harness.report.preference_tables import verdict_counts

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLORS = {"won": ACCENT, "tied": FAINT, "lost": QUIET}


def votes(analysis: Analysis) -> Figure | None:
    """Stacked bars of won, tied and lost prompts by set, one panel per pair of arms."""
    preference = analysis.preference
    if preference is None or not preference.pairs or not preference.categories:
        return None
    height = 0.9 + 0.42 * len(preference.categories)
    figure, axes = panels(len(preference.pairs), 2, 5.2, height, sharey=True)
    for axis, pair in zip(axes, preference.pairs, strict=True):
        _panel(axis, analysis, preference, pair)
    bars = [Patch(color=color, label=name) for name, color in _COLORS.items()]
    ours = Line2D([], [], color=INK, marker="o", markersize=4, linestyle="", label="share of the votes")
    handles = [*bars, ours, paper_handle("the paper's", 5)]
    figure.legend(handles=handles, loc="outside upper left", ncols=len(handles), frameon=False)
    return figure


def _panel(axis: Axes, analysis: Analysis, preference: Preference, pair: Pair) -> None:
    for row, category in enumerate(preference.categories):
        counts = verdict_counts(preference, preference.first, pair, category)
        left = 0.0
        for count, color in zip(counts, _COLORS.values(), strict=True):
            share = count / max(1, sum(counts))
            axis.barh(row, share, left=left, height=0.62, color=color, linewidth=0)
            left += share
        ours = preference.tally(preference.first, pair, category).win_rate
        if ours is not None:
            axis.plot(ours, row, "o", color=INK, markersize=4, zorder=3)
        else:
            missing_mark(axis, row, analysis.absence(pair[0], category))
        paper = analysis.published.get(pair[0], {}).get(category)
        if paper is not None:
            paper_mark(axis, paper, row, 5, zorder=4)
    axis.axvline(0.5, color=INK, linewidth=0.8)
    axis.set_xlim(0, 1)
    axis.set_title(f"{pair[0]} against {pair[1]}")
    axis.set_yticks(range(len(preference.categories)), preference.categories)
    horizontal_rows(axis, len(preference.categories))
