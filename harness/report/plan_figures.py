"""The figures of a study of plans."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from matplotlib import pyplot

from harness.analysis.contrasts import Comparison
from harness.analysis.plan_checks import BestOf, Dose, best_of, doses
from harness.analysis.plans import RULES, UNSEEN_NATS, Effect, plan_analysis
from harness.analysis.statistics import ALPHA, Estimate
from harness.analysis.study import Analysis
from harness.report.figure_style import (
    ACCENT,
    BAD,
    FAINT,
    GOOD,
    INK,
    PAPER,
    PLAIN,
    QUIET,
    horizontal_rows,
    interval_line,
    missing_mark,
    panels,
    paper_handle,
    paper_mark,
)
from harness.report.plan_tables import NOT_IN_TRAINING, SHARES, published_effect

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SHARE_COLORS = (GOOD, ACCENT, PAPER, BAD)  # in the order of SHARES
_LABELS = 20  # lines of labels over the height of a figure
_RULE_COLORS = {"own": ACCENT, "centers": PAPER}


def attribution(analysis: Analysis) -> Figure | None:
    """The four cases of plan and image, a bar per checkpoint and a panel per rule."""
    plans = plan_analysis(analysis)
    if not plans.attributions:
        return None
    arms = [arm.name for arm in plans.checkpoints]
    figure, axes = panels(len(RULES), 2, 4.4, 1.3 + 0.4 * len(arms), sharey=True)
    for axis, rule in zip(axes, RULES, strict=True):
        for row, arm in enumerate(arms):
            if found := plans.attributions.get((arm, rule)):
                _stack(axis, row, found.shares)
            else:
                missing_mark(axis, row, "not measured")
        axis.set_title("the benchmark's own rule" if rule == "own" else "order of centers")
        axis.set_xlim(0, 1)
        axis.set_yticks(range(len(arms)), arms)
        horizontal_rows(axis, len(arms))
    handles, labels = axes[0].get_legend_handles_labels()
    shown = dict(zip(labels, handles, strict=True))
    figure.legend(shown.values(), shown.keys(), loc="outside upper left", ncols=4, frameon=False)
    return figure


def _stack(axis: Axes, row: int, shares: Sequence[float]) -> None:
    left = 0.0
    for share, color, label in zip(shares, _SHARE_COLORS, SHARES, strict=True):
        axis.barh(row, share, left=left, height=0.62, color=color, linewidth=0, label=label)
        if share >= 0.06:
            axis.text(left + share / 2, row, f"{share:.2f}", ha="center", va="center", color="white")
        left += share


def effects(analysis: Analysis) -> Figure | None:
    """Forest plot: the effect of every intervention against its baseline, with the published one."""
    plans = plan_analysis(analysis)
    compared = [effect for effect in plans.effects if effect.baseline is not None]
    if not compared:
        return None
    figure, axis = pyplot.subplots(figsize=(7.4, 1.3 + 0.27 * len(compared)))
    axis.axvline(0, color=INK, linewidth=0.8, zorder=1)
    for row, effect in enumerate(compared):
        published = published_effect(plans, effect)
        if published is not None:
            paper_mark(axis, published, row + 0.14, 4.2, zorder=4)
        if isinstance(effect.whole, str):
            missing_mark(axis, row, effect.whole)
            continue
        color = _effect_color(effect.whole, effect.p_holm)
        interval_line(axis, effect.whole.interval, row - 0.1, color, width=2.2, alpha=0.6)
        axis.plot(effect.whole.effect, row - 0.1, "o", color=color, markersize=4.8)
    axis.set_yticks(range(len(compared)), list(map(_effect_label, compared)))
    axis.set_xlabel("share of images with a right relation, minus that of the baseline")
    horizontal_rows(axis, len(compared))
    if any(published_effect(plans, effect) is not None for effect in compared):
        handle = paper_handle("the paper's effect", 4.2)
        figure.legend(handles=[handle], loc="outside upper left", frameon=False)
    return figure


def _effect_label(effect: Effect) -> str:
    assert effect.baseline is not None
    mark = f", {NOT_IN_TRAINING}" if effect.unseen else ""
    return f"{effect.arm.name} − {effect.baseline.name}{mark}"


def _effect_color(comparison: Comparison, p_holm: float | None) -> str:
    if p_holm is None or p_holm >= ALPHA:
        return QUIET
    return GOOD if comparison.effect > 0 else BAD


def dose(analysis: Analysis) -> Figure | None:
    """Relation over the distance of the boxes by either rule, and the best of K chains."""
    plans = plan_analysis(analysis)
    moved, points = doses(plans), best_of(plans)
    panel_count = bool(moved) + bool(points)
    if not panel_count:
        return None
    figure, axes = panels(panel_count, 2, 4.6, 3.4)
    if moved:
        _dose_panel(axes[0], moved)
    if points:
        _best_panel(axes[-1], points)
    return figure


def _dose_panel(axis: Axes, moved: Sequence[Dose]) -> None:
    for rule, color in _RULE_COLORS.items():
        after = [(found.margin, found.right[rule]) for found in moved]
        before = [(found.margin_before, found.right_before[rule]) for found in moved]
        label = "the benchmark's own rule" if rule == "own" else "order of centers"
        _points(axis, after, color, marker="o", label=label)
        _points(axis, before, color, marker="o", markerfacecolor="white", label="")
    for found in moved:
        axis.annotate(found.arm, (found.margin, 0.02), ha="center", fontsize=7.5, color=QUIET)
    axis.margins(x=0.12)
    axis.set_title("Dose: boxes further apart")
    axis.set_xlabel("mean distance of the centers, share of the canvas")
    axis.set_ylabel("share of right images")
    axis.set_ylim(0, 1.02)
    axis.grid(color=FAINT)
    axis.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 0.08))


def _best_panel(axis: Axes, points: Sequence[BestOf]) -> None:
    checkpoints = list(dict.fromkeys(point.checkpoint for point in points))
    for checkpoint, color in zip(checkpoints, (ACCENT, PAPER, PLAIN, GOOD, BAD) * len(points), strict=False):
        own = [point for point in points if point.checkpoint == checkpoint]
        ks = [point.k for point in own]
        plans = [(point.k, point.plan_right) for point in own]
        _points(axis, plans, color, marker="o", linestyle="-", label=checkpoint)
        axis.plot(ks, [point.independent for point in own], color=color, linewidth=1, linestyle=(0, (3, 3)))
        images = [(point.k, point.relation) for point in own if point.relation is not None]
        _points(axis, images, color, marker="s", markerfacecolor="white", label="")
    axis.set_title("Best of K chains")
    axis.set_xlabel("K")
    axis.set_xticks(sorted({point.k for point in points}))
    axis.set_ylabel("share of prompts")
    axis.set_ylim(0, 1.02)
    axis.grid(color=FAINT)
    axis.legend(frameon=False, loc="lower right")


def _points(
    axis: Axes, points: Sequence[tuple[float, Estimate]], color: str, *, label: str, **settings: Any
) -> None:
    """Draw shares over numbers with their intervals."""
    scored = [(x, found.mean, found.interval) for x, found in points if found.mean is not None]
    for x, _, interval in scored:
        if interval.low is not None and interval.high is not None:
            axis.plot([x, x], [interval.low, interval.high], color=color, linewidth=1.6, alpha=0.4)
    xs, ys = [x for x, _, _ in scored], [mean for _, mean, _ in scored]
    style = {"linestyle": "", "color": color, "markersize": 5, **settings}
    axis.plot(xs, ys, label=label or "_nolegend_", **style)


def improbability(analysis: Analysis) -> Figure | None:
    """How improbable the chains of every arm are, against the share of right images."""
    plans = plan_analysis(analysis)
    points = []
    for effect in plans.effects:
        mean, nll = analysis.estimate(effect.arm.name, "relation").mean, effect.arm.nll
        if mean is not None and nll is not None:
            points.append((effect, nll, mean))
    if not points:
        return None
    figure, axis = pyplot.subplots(figsize=(6.4, 3.8))
    places: dict[tuple[float, float], list[str]] = {}
    for effect, nll, mean in points:
        axis.plot(nll, mean, "o", color=BAD if effect.unseen else PLAIN, markersize=5)
        places.setdefault((round(nll, 1), round(mean * _LABELS) / _LABELS), []).append(effect.arm.name)
    for place, names in places.items():
        axis.annotate(
            ", ".join(names),
            place,
            xytext=(7, 0),
            textcoords="offset points",
            va="center",
            fontsize=7.5,
            color=QUIET,
        )
    baselines = {effect.baseline.nll for effect in plans.effects if effect.baseline is not None}
    for nll in baselines - {None}:
        assert nll is not None
        axis.axvline(nll + UNSEEN_NATS, color=QUIET, linewidth=0.9, linestyle=(0, (3, 3)), zorder=0)
    axis.set_xlabel("−log p per id of the chain, nats")
    axis.set_ylabel("share of right images")
    axis.set_ylim(-0.04, 1.04)
    axis.grid(color=FAINT)
    return figure


FIGURES = (
    (
        "plan_attribution",
        attribution,
        "Plan and image, right or wrong, by checkpoint. A wrong image with a right plan is a fault of the"
        " drawing; a wrong image with a wrong plan is one of the plan.",
    ),
    (
        "plan_effects",
        effects,
        "Effect of every intervention on the relation in the image against its baseline, with 95% interval;"
        " colored where Holm's p is below 0.05. Diamonds are the paper's effects.",
    ),
    (
        "plan_dose",
        dose,
        "Left: share of right images over the distance of the boxes, after the move (filled) and before it"
        " (open), on the same prompts. Right: share of prompts with a right plan among the first K chains"
        " (dots), 1 − (1 − p)^K (dashed), and share of right images of the arm that takes the first right"
        " plan (squares). Intervals: 95%.",
    ),
    (
        "plan_nll",
        improbability,
        "Share of right images over the improbability of the chain, a point per arm. Right of the dashed"
        " line,"
        f" {UNSEEN_NATS:g} nat above the baseline, chains were not in training.",
    ),
)
