"""The figures about training, by step: rewards, their spread within groups, and curves of every run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import seaborn
from matplotlib.lines import Line2D

from harness.analysis.study import DONE, Analysis
from harness.report.cost import COMPONENT, REWARD, Metrics, component_names, reward_metrics
from harness.report.figure_style import ACCENT, BAD, INK, QUIET, arm_color, panels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLUMNS = 5
_WIDE_COLUMNS = 4
_DASHES = ("-", "--", ":", "-.")
_SPREAD, _TOTAL = "spread/", "total"

# Name in metrics.jsonl and title of each curve, which is shown if a run logged more than the last number.
_CURVES = (
    ("entropy/chain", "entropy of chain tokens (nats)", -math.inf),
    ("entropy/image", "entropy of image tokens (nats)", -math.inf),
    ("kl/chain", "KL of chain tokens (nats)", -math.inf),
    ("kl/image", "KL of image tokens (nats)", -math.inf),
    ("length/chain", "length of chains (tokens)", -math.inf),
    ("chain_share", "share of tokens in chains", -math.inf),
    ("zero_spread_share", "share of groups without spread", -math.inf),
    ("sampler_gap", "gap to the sampler (nats per token)", 0.01),  # below: rounding
)


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
    names = component_names(analysis.study)
    return _by_component(analysis, COMPONENT, names, "component value")


def spread(analysis: Analysis) -> Figure | None:
    """Deviation of total and components within a group by training step, one panel per arm."""
    names = [*component_names(analysis.study), _TOTAL]
    return _by_component(analysis, _SPREAD, names, "deviation within a group")


def curves(analysis: Analysis) -> Figure | None:
    """Entropy, KL, chain length and groups without spread by training step: a panel each, a line per run."""
    trained = _trained(analysis)
    shown = [(name, title) for name, title, least in _CURVES if _exceeds(trained, name, least)]
    if not shown:
        return None
    styles = _line_styles(analysis, list(trained))
    figure, axes = panels(len(shown), _WIDE_COLUMNS, 2.9, 2.1, sharex=True)
    for number, (axis, (name, title)) in enumerate(zip(axes, shown, strict=True)):
        for arm, runs in trained.items():
            for metrics in runs:
                steps, values = _series(metrics, name)
                axis.plot(steps, _smooth(values), **styles[arm])
        axis.set_title(title, fontsize=8.5)
        axis.grid(axis="y")
        axis.set_axisbelow(True)
        if axis.dataLim.ymin >= 0:
            axis.set_ylim(bottom=0)
        axis.tick_params(labelbottom=number + _WIDE_COLUMNS >= len(shown), labelcolor=QUIET)
        seaborn.despine(ax=axis)
    handles = [Line2D([], [], label=_title(analysis, arm), **style) for arm, style in styles.items()]
    figure.legend(handles=handles, loc="outside upper left", ncols=min(len(handles), 6), frameon=False)
    figure.supxlabel("training step", fontsize=9, color=QUIET)
    return figure


def _by_component(analysis: Analysis, prefix: str, names: Sequence[str], quantity: str) -> Figure | None:
    """Every logged `prefix + name` by training step, one panel per arm; None where nothing is logged."""
    trained = _trained(analysis)
    logged = [name for name in names if _exceeds(trained, prefix + name)]
    if not logged:
        return None
    palette = dict(zip(names, seaborn.color_palette("colorblind", len(names)), strict=True))
    palette |= {name: INK for name in names if name == _TOTAL}
    figure, axes = panels(len(trained), _COLUMNS, 2.3, 1.75, sharex=True, sharey=True)
    for axis, runs in zip(axes, trained.values(), strict=True):
        for metrics in runs:
            for name in logged:
                steps, values = _series(metrics, prefix + name)
                axis.plot(steps, _smooth(values), color=palette[name], linewidth=1.6)
    handles = [Line2D([], [], color=palette[name], linewidth=2, label=name) for name in logged]
    figure.legend(handles=handles, loc="outside upper left", ncols=min(len(logged), 8), frameon=False)
    _finish_curves(figure, axes, analysis, list(trained), quantity)
    return figure


def _exceeds(trained: Mapping[str, Sequence[Metrics]], name: str, least: float = -math.inf) -> bool:
    """Return whether any run logged a value of `name` above `least`."""
    for runs in trained.values():
        for metrics in runs:
            if any(value > least for value in _series(metrics, name)[1]):
                return True
    return False


def _line_styles(analysis: Analysis, arms: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return arm -> color and style of its line. Where the colors end, they come again with other dashes."""
    palette = seaborn.color_palette("tab10")[1:]  # the first is like that of the full method
    styles: dict[str, dict[str, Any]] = {}
    for number, arm in enumerate(arm for arm in arms if arm != analysis.full):
        dashes = _DASHES[number // len(palette) % len(_DASHES)]
        styles[arm] = {"color": palette[number % len(palette)], "linewidth": 1.2, "linestyle": dashes}
    if analysis.full is not None and analysis.full in arms:
        styles[analysis.full] = {"color": ACCENT, "linewidth": 2.4, "zorder": 3}
    return {arm: styles[arm] for arm in arms}


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
        axis.set_title(_title(analysis, arm), color=INK if analysis.state(arm) == DONE else BAD)
        axis.grid(axis="y")
        axis.set_axisbelow(True)
        axis.set_ylim(bottom=0)
        axis.tick_params(labelbottom=number + _COLUMNS >= len(axes), labelcolor=QUIET)
        seaborn.despine(ax=axis)
    figure.supxlabel("training step", fontsize=9, color=QUIET)
    figure.supylabel(quantity, fontsize=9, color=QUIET)


def _title(analysis: Analysis, arm: str) -> str:
    """Return the arm's name, with its state where it is not done."""
    state = analysis.state(arm)
    return arm if state == DONE else f"{arm} ({state})"


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
