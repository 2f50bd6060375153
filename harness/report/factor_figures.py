"""The figure of a factor: what an arm gains at every level, and where the full method is better."""

from __future__ import annotations

from typing import TYPE_CHECKING

import seaborn
from matplotlib import pyplot
from matplotlib.lines import Line2D

from harness.analysis.contrasts import Comparison
from harness.analysis.factors import Factor, FactorPoint
from harness.analysis.study import Analysis
from harness.report.figure_style import ACCENT, INK, QUIET

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SPREAD = 0.012  # arms of one level stand beside each other, by this share of the axis


def factor(analysis: Analysis, shown: Factor) -> Figure | None:
    """Gain over the baseline by level, beside the lead of the full method; None without a number."""
    arms = list(dict.fromkeys(point.arm for point in shown.points))
    others = [arm for arm in arms if arm != shown.full]
    palette = seaborn.color_palette("colorblind", len(others) + 1)[1:]  # the first is like that of the full
    colors = dict(zip(others, palette, strict=True))
    colors |= {shown.full: ACCENT} if shown.full in arms else {}
    panels = _panels(analysis, shown)
    if not panels:
        return None
    figure, grid = pyplot.subplots(1, len(panels), figsize=(5.3 * len(panels), 3.9), squeeze=False)
    for axis, (name, title) in zip(grid[0], panels.items(), strict=True):
        axis.axhline(0, color=INK, linewidth=0.8, zorder=1)
        for number, arm in enumerate(arms):
            points = [point for point in shown.points if point.arm == arm]
            dodge = (number - (len(arms) - 1) / 2) * _SPREAD * _reach(shown)
            _line(axis, points, name, colors[arm], dashed=arm in shown.fixed, dodge=dodge)
        axis.set_title(title)
        _set_levels(axis, shown)
    handles = []
    for arm in arms:
        handle = Line2D([], [], color=colors[arm], linewidth=2, label=arm)
        handle.set_linestyle("--" if arm in shown.fixed else "-")
        handles.append(handle)
    figure.legend(handles=handles, loc="outside upper left", ncols=min(len(arms), 6), frameon=False)
    figure.supxlabel(shown.label, fontsize=9, color=QUIET)
    return figure


def caption(analysis: Analysis, shown: Factor) -> str:
    """Return the caption of the figure of a factor."""
    quantities = "; ".join(_panels(analysis, shown).values())
    text = f"By {shown.label}: {quantities}. Means over all categories, with 95% intervals."
    return text + (f" No level changes the dashed arms ({', '.join(shown.fixed)})." if shown.fixed else "")


def _panels(analysis: Analysis, shown: Factor) -> dict[str, str]:
    """Return the differences of which some were measured, with the titles of their panels."""
    titles = {"gain": f"gain over {analysis.baseline}", "lead": f"{shown.full} minus every other arm"}
    measured = {}
    for name, title in titles.items():
        if any(isinstance(getattr(point, name), Comparison) for point in shown.points):
            measured[name] = title
    return measured


def _reach(shown: Factor) -> float:
    places = [point.at for point in shown.points]
    return max(places) - min(places)


def _line(
    axis: Axes, points: list[FactorPoint], name: str, color: object, *, dashed: bool, dodge: float
) -> None:
    """Draw the differences of an arm with their intervals; a level without a number is a gap."""
    places, effects = [], []
    for point in points:
        difference = getattr(point, name)
        places.append(point.at + dodge)
        if not isinstance(difference, Comparison):
            effects.append(float("nan"))
            continue
        effects.append(difference.effect)
        interval = difference.interval
        if interval.low is not None and interval.high is not None:
            ends = [interval.low, interval.high]
            axis.plot([places[-1]] * 2, ends, color=color, linewidth=1.6, alpha=0.5)
    axis.plot(places, effects, "o--" if dashed else "o-", color=color, markersize=4.5, linewidth=1.6)


def _set_levels(axis: Axes, shown: Factor) -> None:
    levels = {point.level: point.at for point in shown.points}
    axis.set_xticks(list(levels.values()), list(levels), rotation=30, ha="right", rotation_mode="anchor")
    axis.tick_params(axis="x", labelsize=7.5)
    axis.grid(axis="y")
    axis.set_axisbelow(True)
    seaborn.despine(ax=axis)
