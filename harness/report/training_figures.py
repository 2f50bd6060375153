"""The figures about training: total reward and reward components by step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import seaborn
from matplotlib.lines import Line2D

from harness.analysis.study import DONE, Analysis
from harness.report.cost import COMPONENT, REWARD, Metrics, component_names, reward_metrics
from harness.report.figure_style import BAD, INK, QUIET, arm_color, panels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLUMNS = 5


def rewards(analysis: Analysis) -> Figure | None:
    """Mean total reward by training step, one panel per arm; seeds as separate lines."""
    trained = _trained(analysis)
    if not trained:
        return None
    figure, axes = panels(len(trained), _COLUMNS, 2.3, 1.75, sharex=True, sharey=True)
    for axis, (arm, runs) in zip(axes, trained.items(), strict=True):
        color = arm_color(analysis, arm)
        for metrics in runs:
            steps, values = _series(metrics, REWARD)
            axis.plot(steps, values, color=color, linewidth=0.7, alpha=0.3)
            axis.plot(steps, _smooth(values), color=color, linewidth=1.7)
    _finish_curves(figure, axes, analysis, list(trained), "total reward")
    return figure


def components(analysis: Analysis) -> Figure | None:
    """Mean raw value of every logged reward component by training step, one panel per arm."""
    trained, names = _trained(analysis), component_names(analysis.study)
    if not trained or not names:
        return None
    palette = dict(zip(names, seaborn.color_palette("colorblind", len(names)), strict=True))
    figure, axes = panels(len(trained), _COLUMNS, 2.3, 1.75, sharex=True, sharey=True)
    for axis, runs in zip(axes, trained.values(), strict=True):
        for metrics in runs:
            for name in names:
                steps, values = _series(metrics, COMPONENT + name)
                axis.plot(steps, _smooth(values), color=palette[name], linewidth=1.6)
    handles = [Line2D([], [], color=palette[name], linewidth=2, label=name) for name in names]
    figure.legend(handles=handles, loc="outside upper left", ncols=min(len(names), 8), frameon=False)
    _finish_curves(figure, axes, analysis, list(trained), "component value")
    return figure


def _trained(analysis: Analysis) -> dict[str, list[Metrics]]:
    """Return arm -> the metrics of its seeds. An unfinished arm that logged nothing has an empty panel."""
    runs = {}
    for arm in analysis.arms:
        metrics = map(reward_metrics, analysis.study.cells_of(arm))
        runs[arm] = [rows for rows in metrics if rows]
    if not any(runs.values()):
        return {}
    return {arm: metrics for arm, metrics in runs.items() if metrics or analysis.state(arm) != DONE}


def _finish_curves(
    figure: Figure, axes: Sequence[Axes], analysis: Analysis, arms: Sequence[str], quantity: str
) -> None:
    for number, (axis, arm) in enumerate(zip(axes, arms, strict=True)):
        state = analysis.state(arm)
        axis.set_title(arm if state == DONE else f"{arm} ({state})", color=INK if state == DONE else BAD)
        axis.grid(axis="y")
        axis.set_axisbelow(True)
        axis.set_ylim(bottom=0)
        axis.tick_params(labelbottom=number + _COLUMNS >= len(axes), labelcolor=QUIET)
        seaborn.despine(ax=axis)
    figure.supxlabel("training step", fontsize=9, color=QUIET)
    figure.supylabel(quantity, fontsize=9, color=QUIET)


def _series(metrics: Metrics, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the steps that logged `name`, and its values."""
    rows = [row for row in metrics if row.get(name) is not None]
    steps = np.array([row["step"] for row in rows], dtype=float)
    return steps, np.array([row[name] for row in rows], dtype=float)


def _smooth(values: np.ndarray) -> np.ndarray:
    """Return the centered moving mean over about a twelfth of the curve, narrower at its ends."""
    reach = max(1, len(values) // 24)
    means = [values[max(0, index - reach) : index + reach + 1].mean() for index in range(len(values))]
    return np.array(means)
