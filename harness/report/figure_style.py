"""Colors, panels and marks that the figures share. Small multiples keep ten arms readable."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import seaborn
from matplotlib import pyplot
from matplotlib.lines import Line2D

from harness.analysis.statistics import Interval
from harness.analysis.study import Analysis

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, QUIET, FAINT, PAPER = "#1f2933", "#7b8794", "#e4e7eb", "#c2762b"
ACCENT, PLAIN, GOOD, BAD = "#1b6ca8", "#6a8caf", "#2f855a", "#c53030"


def set_style() -> None:
    """Set fonts, colors and layout of all figures."""
    seaborn.set_theme(
        style="white",
        rc={
            "font.size": 9,
            "axes.titlesize": 10,
            "axes.titleweight": "bold",
            "axes.titlelocation": "left",
            "axes.titlepad": 7,
            "axes.labelsize": 9,
            "xtick.labelsize": 8,
            "ytick.labelsize": 8.5,
            "legend.fontsize": 8.5,
            "axes.edgecolor": "#cbd2d9",
            "axes.linewidth": 0.8,
            "text.color": INK,
            "axes.labelcolor": INK,
            "axes.titlecolor": INK,
            "xtick.color": QUIET,
            "ytick.color": INK,
            "grid.color": FAINT,
            "grid.linewidth": 0.7,
            "figure.constrained_layout.use": True,
            "figure.constrained_layout.w_pad": 0.07,
            "figure.constrained_layout.h_pad": 0.06,
            "text.parse_math": False,
        },
    )


def arm_color(analysis: Analysis, arm: str) -> str:
    """Return the color of an arm: the full method and the baseline have their own."""
    return {analysis.full: ACCENT, analysis.baseline: QUIET}.get(arm, PLAIN)


def category_title(analysis: Analysis, category: str) -> str:
    """Return the title of a category's panel, wrapped."""
    return textwrap.fill(analysis.heading(category), 24)


def panels(count: int, columns: int, width: float, height: float, **shared: Any) -> tuple[Figure, list[Axes]]:
    """Return a figure with `count` panels of `width` x `height` inches in at most `columns` columns."""
    columns = min(columns, count)
    rows = -(-count // columns)
    figure, grid = pyplot.subplots(
        rows, columns, figsize=(width * columns, height * rows), squeeze=False, **shared
    )
    axes = list(grid.ravel())
    for axis in axes[count:]:
        axis.set_visible(False)
    return figure, axes[:count]


def horizontal_rows(axis: Axes, count: int) -> None:
    """Set up an axis for `count` rows from top to bottom."""
    axis.set_ylim(count - 0.4, -0.6)
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="x")
    axis.set_axisbelow(True)
    seaborn.despine(ax=axis, left=True)


def arm_rows(axis: Axes, analysis: Analysis, arms: Sequence[str]) -> None:
    """Set up an axis with one row per arm."""
    axis.set_yticks(range(len(arms)), arms)
    horizontal_rows(axis, len(arms))
    for label in axis.get_yticklabels():
        label.set_fontweight("bold" if label.get_text() == analysis.full else "normal")


def missing_mark(axis: Axes, row: float, text: str) -> None:
    """Write the reason for a missing number into its row."""
    axis.text(
        0.02,
        row,
        text,
        transform=axis.get_yaxis_transform(),
        va="center",
        fontsize=7.5,
        color=BAD,
        style="italic",
    )


def interval_line(axis: Axes, interval: Interval, row: float, color: str, width: float, alpha: float) -> None:
    """Draw an interval as a line, if there is one."""
    if interval.low is not None and interval.high is not None:
        axis.plot(
            [interval.low, interval.high],
            [row, row],
            color=color,
            linewidth=width,
            alpha=alpha,
            solid_capstyle="round",
        )


def paper_mark(axis: Axes, value: float, row: float, size: float, **settings: Any) -> None:
    """Draw a number of the paper as an open diamond."""
    axis.plot(value, row, "D", color=PAPER, markersize=size, markerfacecolor="white", **settings)


def paper_handle(label: str, size: float) -> Line2D:
    """Return the legend entry of `paper_mark`."""
    return Line2D(
        [], [], color=PAPER, marker="D", markersize=size, markerfacecolor="white", linestyle="", label=label
    )
