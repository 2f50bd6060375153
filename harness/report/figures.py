"""The plots of a report, each as PNG and SVG. Small multiples, one panel per arm or category, so that ten arms stay readable."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib

matplotlib.use("agg")

import numpy as np
import seaborn
from matplotlib import pyplot
from matplotlib.lines import Line2D

from harness.analysis.analysis import DONE, Analysis
from harness.analysis.claims import Verdict
from harness.analysis.statistics import Comparison
from harness.report.cost import COMPONENT, REWARD, component_names, reward_metrics
from harness.report.tables import rank_correlation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, QUIET, FAINT, PAPER = "#1f2933", "#7b8794", "#e4e7eb", "#c2762b"
ACCENT, PLAIN, GOOD, BAD = "#1b6ca8", "#6a8caf", "#2f855a", "#c53030"
_OUTCOME = {"holds": GOOD, "reversed": BAD, "undecided": QUIET}
_DPI = 110
_COLUMNS = 5


def draw_figures(analysis: Analysis, folder: Path) -> dict[str, str]:
    """Writes every figure that the results allow; returns their names with a caption, in the order they are read."""
    _style()
    made: dict[str, str] = {}
    with matplotlib.rc_context({"svg.hashsalt": "harness", "svg.fonttype": "path"}):
        for name, draw, caption in FIGURES:
            figure = draw(analysis)
            if figure is None:
                continue
            figure.draw_without_rendering()
            figure.set_layout_engine("none")  # placed once, not again for each format
            figure.savefig(folder / f"{name}.png", dpi=_DPI, metadata={"Software": None})
            figure.savefig(folder / f"{name}.svg", metadata={"Date": None, "Creator": None})
            pyplot.close(figure)
            made[name] = caption
    return made


def _style() -> None:
    seaborn.set_theme(
        style="white",
        rc={
            "font.size": 9, "axes.titlesize": 10, "axes.titleweight": "bold", "axes.titlelocation": "left", "axes.titlepad": 7,
            "axes.labelsize": 9, "xtick.labelsize": 8, "ytick.labelsize": 8.5, "legend.fontsize": 8.5,
            "axes.edgecolor": "#cbd2d9", "axes.linewidth": 0.8, "text.color": INK, "axes.labelcolor": INK, "axes.titlecolor": INK,
            "xtick.color": QUIET, "ytick.color": INK, "grid.color": FAINT, "grid.linewidth": 0.7,
            "figure.constrained_layout.use": True, "figure.constrained_layout.w_pad": 0.07,
            "figure.constrained_layout.h_pad": 0.06, "text.parse_math": False,
        },
    )  # fmt: skip


def _color(analysis: Analysis, arm: str) -> str:
    return {analysis.full: ACCENT, analysis.baseline: QUIET}.get(arm, PLAIN)


def _title(analysis: Analysis, category: str) -> str:
    return textwrap.fill(analysis.heading(category), 24)


def _panels(
    count: int, columns: int, width: float, height: float, **shared: Any
) -> tuple[Figure, list[Axes]]:
    columns = min(columns, count)
    rows = -(-count // columns)
    figure, grid = pyplot.subplots(
        rows, columns, figsize=(width * columns, height * rows), squeeze=False, **shared
    )
    axes = list(grid.ravel())
    for axis in axes[count:]:
        axis.set_visible(False)
    return figure, axes[:count]


def _rows_of_arms(axis: Axes, analysis: Analysis, arms: Sequence[str]) -> None:
    axis.set_yticks(range(len(arms)), arms)
    axis.set_ylim(len(arms) - 0.4, -0.6)
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="x")
    axis.set_axisbelow(True)
    seaborn.despine(ax=axis, left=True)
    for label in axis.get_yticklabels():
        label.set_fontweight("bold" if label.get_text() == analysis.full else "normal")


def _missing(axis: Axes, row: float, text: str) -> None:
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


def scores(analysis: Analysis) -> Figure | None:
    """Score per category with intervals, one panel per category."""
    if not analysis.categories:
        return None
    figure, axes = _panels(len(analysis.categories), 3, 3.5, 0.6 + 0.24 * len(analysis.arms), sharey=True)
    for axis, category in zip(axes, analysis.categories, strict=True):
        for row, arm in enumerate(analysis.arms):
            found = analysis.estimate(arm, category)
            if found.mean is None:
                _missing(axis, row, analysis.absence(arm, category))
                continue
            color = _color(analysis, arm)
            if found.interval.low is not None and found.interval.high is not None:
                axis.plot(
                    [found.interval.low, found.interval.high],
                    [row, row],
                    color=color,
                    linewidth=2.4,
                    alpha=0.55,
                    solid_capstyle="round",
                )
            axis.plot(found.mean, row, "o", color=color, markersize=5.5)
        reference = (
            analysis.estimate(analysis.baseline, category).mean
            if analysis.baseline in analysis.arms
            else None
        )
        if reference is not None:
            axis.axvline(reference, color=QUIET, linewidth=0.9, linestyle=(0, (3, 3)), zorder=0)
        axis.set_title(_title(analysis, category))
        bounds = [value for arm in analysis.arms for value in _bounds(analysis, arm, category)]
        low, top = min(bounds), max(0.05, *bounds)
        axis.set_xlim(low - 0.03 * (top - low), top + 0.05 * (top - low))
        _rows_of_arms(axis, analysis, analysis.arms)
    return figure


def _bounds(analysis: Analysis, arm: str, category: str) -> list[float]:
    found = analysis.estimate(arm, category)
    return [
        value for value in (0.0, found.interval.low, found.mean, found.interval.high) if value is not None
    ]


def published(analysis: Analysis) -> Figure | None:
    """Ours and the paper's change against the baseline, one panel per category."""
    baseline = analysis.baseline
    arms = [arm for arm in analysis.arms if arm in analysis.published and arm != baseline]
    paper = analysis.published.get(baseline or "", {})
    categories = [category for category in analysis.categories if category in paper]
    if not arms or not categories or baseline not in analysis.arms:
        return None
    figure, axes = _panels(len(categories), 3, 3.5, 0.7 + 0.26 * len(arms), sharey=True)
    for axis, category in zip(axes, categories, strict=True):
        axis.axvline(0, color=INK, linewidth=0.8)
        for row, arm in enumerate(arms):
            found = analysis.compare(arm, baseline, category)
            if category in analysis.published[arm]:
                axis.plot(
                    analysis.published[arm][category] - paper[category],
                    row + 0.16,
                    "D",
                    color=PAPER,
                    markersize=4.2,
                    markerfacecolor="white",
                )
            if isinstance(found, Comparison):
                _point(axis, found, row - 0.12, _color(analysis, arm))
            else:
                _missing(axis, row - 0.12, found)
        rho, _ = rank_correlation(analysis, category)
        title = _title(analysis, category)
        axis.set_title(title if rho is None else f"{title}    rank correlation {rho:+.2f}")
        _rows_of_arms(axis, analysis, arms)
    handles = [
        Line2D([], [], color=PLAIN, marker="o", markersize=5, linewidth=2, label="ours, 95% interval"),
        Line2D(
            [],
            [],
            color=PAPER,
            marker="D",
            markersize=4.2,
            markerfacecolor="white",
            linestyle="",
            label="the paper's",
        ),
    ]
    figure.legend(handles=handles, loc="outside upper left", ncols=2, frameon=False)
    figure.supxlabel(f"score minus {baseline}", fontsize=9, color=QUIET)
    return figure


def _point(axis: Axes, found: Comparison, row: float, color: str) -> None:
    if found.interval.low is not None and found.interval.high is not None:
        axis.plot(
            [found.interval.low, found.interval.high],
            [row, row],
            color=color,
            linewidth=2.2,
            alpha=0.6,
            solid_capstyle="round",
        )
    axis.plot(found.effect, row, "o", color=color, markersize=4.8)


def claims(analysis: Analysis) -> Figure | None:
    """Forest plot: a row per pair of arms, grouped by claim; a column per category."""
    if not analysis.verdicts or not analysis.categories:
        return None
    lines = _forest_lines(analysis.verdicts)
    parts = {
        (verdict.claim.id, part.part.better, part.part.than, part.part.category): part
        for verdict in analysis.verdicts
        for part in verdict.parts
    }
    figure, grid = pyplot.subplots(
        1,
        len(analysis.categories),
        figsize=(3.6 + 1.75 * len(analysis.categories), 0.9 + 0.215 * len(lines)),
        sharey=True,
        squeeze=False,
    )
    for axis, category in zip(grid[0], analysis.categories, strict=True):
        axis.axvline(0, color=INK, linewidth=0.8, zorder=1)
        for row, (claim, better, than) in enumerate(lines):
            part = parts.get((claim, better, than, analysis.study.category_of(category)))
            if not better:
                axis.axhline(row + 0.45, color=FAINT, linewidth=0.9)
            if part is None:
                continue
            if part.comparison is None:
                axis.plot(0, row, "x", color=BAD, markersize=4)
                continue
            if part.published is not None:
                axis.plot(
                    part.published, row, "D", color=PAPER, markersize=3.6, markerfacecolor="white", zorder=2
                )
            _point(axis, part.comparison, row, _OUTCOME[part.outcome])
        axis.set_title(_title(analysis, category))
        axis.set_ylim(len(lines) - 0.4, -0.6)
        axis.tick_params(axis="y", length=0)
        axis.grid(axis="x")
        axis.set_axisbelow(True)
        seaborn.despine(ax=axis, left=True)
    grid[0][0].set_yticks(
        range(len(lines)), [f"{better} > {than}" if better else claim for claim, better, than in lines]
    )
    for label, (_, better, _) in zip(grid[0][0].get_yticklabels(), lines, strict=True):
        label.set_fontweight("normal" if better else "bold")
    handles = [
        Line2D([], [], color=color, marker="o", markersize=5, linewidth=2, label=name)
        for name, color in _OUTCOME.items()
    ]
    handles.append(
        Line2D(
            [],
            [],
            color=PAPER,
            marker="D",
            markersize=4,
            markerfacecolor="white",
            linestyle="",
            label="the paper's difference",
        )
    )
    handles.append(Line2D([], [], color=BAD, marker="x", markersize=4, linestyle="", label="not measured"))
    figure.legend(handles=handles, loc="outside upper left", ncols=5, frameon=False)
    return figure


def _forest_lines(verdicts: Sequence[Verdict]) -> list[tuple[str, str, str]]:
    """(claim, "", "") opens a claim, (claim, better, than) is one of its pairs."""
    lines = []
    for verdict in verdicts:
        pairs = dict.fromkeys((part.part.better, part.part.than) for part in verdict.parts)
        lines += [(verdict.claim.id, "", ""), *[(verdict.claim.id, *pair) for pair in pairs]]
    return lines


def rewards(analysis: Analysis) -> Figure | None:
    """Mean total reward by training step, one panel per arm; seeds as separate lines."""
    trained = _trained(analysis)
    if not trained:
        return None
    figure, axes = _panels(len(trained), _COLUMNS, 2.3, 1.75, sharex=True, sharey=True)
    for axis, (arm, runs) in zip(axes, trained.items(), strict=True):
        color = _color(analysis, arm)
        for lines in runs:
            steps, values = _series(lines, REWARD)
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
    figure, axes = _panels(len(trained), _COLUMNS, 2.3, 1.75, sharex=True, sharey=True)
    for axis, runs in zip(axes, trained.values(), strict=True):
        for lines in runs:
            for name in names:
                steps, values = _series(lines, COMPONENT + name)
                axis.plot(steps, _smooth(values), color=palette[name], linewidth=1.6)
    handles = [Line2D([], [], color=palette[name], linewidth=2, label=name) for name in names]
    figure.legend(handles=handles, loc="outside upper left", ncols=min(len(names), 8), frameon=False)
    _finish_curves(figure, axes, analysis, list(trained), "component value")
    return figure


def _trained(analysis: Analysis) -> dict[str, list[Sequence[Mapping[str, float | None]]]]:
    """Arm -> the metrics of its seeds; an arm that should have trained but logged nothing keeps an empty panel."""
    runs = {
        arm: [lines for cell in analysis.study.cells_of(arm) if (lines := reward_metrics(cell))]
        for arm in analysis.arms
    }
    if not any(runs.values()):
        return {}
    return {arm: found for arm, found in runs.items() if found or analysis.state(arm) != DONE}


def _finish_curves(
    figure: Figure, axes: Sequence[Axes], analysis: Analysis, arms: Sequence[str], quantity: str
) -> None:
    for place, (axis, arm) in enumerate(zip(axes, arms, strict=True)):
        state = analysis.state(arm)
        axis.set_title(arm if state == DONE else f"{arm} ({state})", color=INK if state == DONE else BAD)
        axis.grid(axis="y")
        axis.set_axisbelow(True)
        axis.set_ylim(bottom=0)
        axis.tick_params(labelbottom=place + _COLUMNS >= len(axes), labelcolor=QUIET)
        seaborn.despine(ax=axis)
    figure.supxlabel("training step", fontsize=9, color=QUIET)
    figure.supylabel(quantity, fontsize=9, color=QUIET)


def _series(lines: Sequence[Mapping[str, float | None]], name: str) -> tuple[np.ndarray, np.ndarray]:
    pairs = [(line["step"], value) for line in lines if (value := line.get(name)) is not None]
    return np.array([step for step, _ in pairs], dtype=float), np.array(
        [value for _, value in pairs], dtype=float
    )


def _smooth(values: np.ndarray) -> np.ndarray:
    """Centred moving mean over about a twelfth of the curve, narrower at its ends."""
    reach = max(1, len(values) // 24)
    return np.array(
        [values[max(0, index - reach) : index + reach + 1].mean() for index in range(len(values))]
    )


FIGURES = (
    ("scores", scores, "Score per category with 95% bootstrap interval; the dashed line is the baseline."),
    (
        "claims",
        claims,
        "The parts of every claim: our paired difference with its 95% interval, colored by outcome, and the paper's difference.",
    ),
    (
        "published",
        published,
        "Change against the baseline, ours and the paper's. Sizes differ between the two worlds; order and sign can be compared.",
    ),
    (
        "rewards",
        rewards,
        "Total reward during training (mean over the batch; thick line smoothed). Totals of different arms are different quantities.",
    ),
    ("components", components, "Raw value of every reward component that an arm's total uses, smoothed."),
)
