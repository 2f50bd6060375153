"""The tables of a study of plans: attribution, what changed between checkpoints, and effects."""

from __future__ import annotations

import math

from harness.analysis.contrasts import Comparison
from harness.analysis.measures import RELATION
from harness.analysis.plans import NO_BASELINE, UNSEEN_NATS, Change, Effect, PlanAnalysis, plan_analysis
from harness.analysis.statistics import ALPHA, Interval
from harness.analysis.study import DONE, Analysis
from harness.report.cells import (
    COMPARISON_FIELDS,
    arm_cell,
    comparison_record,
    difference_cell,
    estimate_text,
    p_text,
    signed,
    span,
)
from harness.report.legend import legend
from harness.report.plan_check_tables import check_tables, unchanged
from harness.report.table import Shown, Table, Value

NONE = Shown("–")
NOT_IN_TRAINING = "not in training"
_QUANTITIES = (
    "p: plan right",
    "a: image right if plan right",
    "b: image right if plan wrong",
    "R: image right",
)
SHARES = ("both right", "plan right, image wrong", "plan wrong, image right", "both wrong")


def plan_tables(analysis: Analysis) -> list[Table]:
    """Return the tables of a study of plans; none in other studies."""
    plans = plan_analysis(analysis)
    if not plans.arms:
        return []
    tables = [_attribution(plans), _changes(plans), _effects(plans), _subsets(plans), *check_tables(plans)]
    return [table for table in tables if table is not None]


def measure_legend(plans: PlanAnalysis) -> str:
    """Return how the measures were taken: by which detector, roles and rule."""
    return legend(plans.analysis, [RELATION])


def published_effect(plans: PlanAnalysis, effect: Effect) -> float | None:
    """Return the effect in the published table; None where it lacks the arm or its baseline."""
    published = plans.analysis.published
    rows = [published.get(arm.name, {}).get(RELATION) for arm in (effect.arm, effect.baseline) if arm]
    if len(rows) < 2 or rows[0] is None or rows[1] is None:
        return None
    return rows[0] - rows[1]


def _attribution(plans: PlanAnalysis) -> Table | None:
    rows, records = [], []
    for (arm, rule), found in plans.attributions.items():
        cells = [Shown(arm, tone="name"), Shown(rule)]
        record: list[Value] = [arm, rule]
        for name, value in found.values.items():
            interval = found.intervals[name]
            defined = not math.isnan(value)
            cells.append(Shown(f"{value:.3f} ({span(interval)})") if defined else NONE)
            record += [value if defined else None, interval.low, interval.high]
        rows.append((*cells, *[Shown(f"{share:.3f}") for share in found.shares], Shown(str(found.prompts))))
        records.append((*record, *found.shares, found.prompts, found.images))
    if not rows:
        return None
    quantities = ("plan_right", "image_right_if_plan_right", "image_right_if_plan_wrong", "image_right")
    fields = [f"{name}{end}" for name in quantities for end in ("", "_low", "_high")]
    return Table(
        name="plan_attribution",
        title="Plan or drawing?",
        note=(
            "A row per checkpoint, drawing from its own chains, and per rule: own is the benchmark's rule of"
            " when a relation holds, centers the order of the boxes' centers. p is the share of right plans,"
            " a the share of right images where the plan is right, b where it is wrong, R the share of right"
            " images: R = p a + (1 − p) b. Then the shares of the four cases. In brackets: 95% bootstrap"
            " interval over prompts."
        ),
        header=("checkpoint", "rule", *_QUANTITIES, *SHARES, "prompts"),
        rows=tuple(rows),
        fields=(
            "arm",
            "rule",
            *fields,
            *[share.replace(", ", "_").replace(" ", "_") for share in SHARES],
            "prompts",
            "images",
        ),
        records=tuple(records),
        legend=measure_legend(plans),
    )


def _changes(plans: PlanAnalysis) -> Table | None:
    if not plans.changes:
        return None
    compared = ("p", "a", "right")
    fields = [f"{name}_{field}" for name in compared for field in COMPARISON_FIELDS]
    return Table(
        name="plan_changes",
        title="What changed between checkpoints: plans or drawing?",
        note=(
            "The change of R is the sum of two parts. The plan part is what the change of p makes of the"
            " difference between a and b; the drawing part is what the changes of a and b make. Both weigh"
            " the two checkpoints alike. Then the changes of p, a and R with paired tests, whose p is not"
            " corrected; that of a is over the images whose plans are right with both checkpoints. Intervals:"
            " 95%."
        ),
        header=(
            "from",
            "to",
            "rule",
            "plan part",
            "drawing part",
            "change of p",
            "change of a",
            "change of R",
        ),
        rows=tuple(map(_change_row, plans.changes)),
        fields=(
            *("from", "to", "rule", "change", "plan_part", "plan_low", "plan_high"),
            *("drawing_part", "drawing_low", "drawing_high", "prompts", *fields),
        ),
        records=tuple(map(_change_record, plans.changes)),
        legend=measure_legend(plans),
    )


def _change_row(change: Change) -> tuple[Shown, ...]:
    parts = change.split
    return (
        Shown(change.first, tone="name"),
        Shown(change.second),
        Shown(change.rule),
        Shown(_difference(parts.plan, parts.plan_interval)),
        Shown(_difference(parts.drawing, parts.drawing_interval)),
        *map(_counted_difference, (change.p, change.a, change.right)),
    )


def _change_record(change: Change) -> tuple[Value, ...]:
    parts = change.split
    record: list[Value] = [change.first, change.second, change.rule, parts.change]
    for value, interval in ((parts.plan, parts.plan_interval), (parts.drawing, parts.drawing_interval)):
        record += [value, interval.low, interval.high]
    record.append(parts.prompts)
    for comparison in (change.p, change.a, change.right):
        record += comparison_record(comparison)
    return tuple(record)


def _effects(plans: PlanAnalysis) -> Table:
    analysis = plans.analysis
    effects = {effect.arm.name: effect for effect in plans.effects}
    rows, records = [], []
    for arm in analysis.arms:
        if arm in effects:
            rows.append(_effect_row(plans, effects[arm]))
            records.append(_effect_record(plans, effects[arm]))
        elif analysis.state(arm) != DONE:
            state = analysis.state(arm)
            rows.append((arm_cell(analysis, arm), Shown(state, tone="missing"), *[NONE] * 7))
            records.append((arm, *[None] * 6, *comparison_record(state), *[None] * 13))
    return Table(
        name="plan_effects",
        title="The effect of every intervention on the relation in the image",
        note=(
            "An effect is the arm's share of images with a right relation minus that of its baseline, on"
            " the same prompts and checkpoint. The baseline of arms that draw from text is reencoded (the own"
            " chain as text), that of arms that draw from sampled chains is own (the own chain as sampled)."
            " Where an intervention cannot be applied, its arm draws what the baseline draws; the column"
            ' "where applied" leaves such images out. Holm p: two-sided, corrected over the arms of the'
            " study. −log p is the mean per id of the chain, in nats: how improbable the model finds it."
            f" {NOT_IN_TRAINING}: more than {UNSEEN_NATS:g} nat above the baseline, so the model never saw"
            " such chains, and a low score says nothing about whether it uses them."
            f"{unchanged(plans)}"
        ),
        header=(
            *("arm", "baseline", RELATION, "effect", "Holm p", "effect where applied", "applied"),
            *("the paper's effect", "−log p"),
        ),
        rows=tuple(rows),
        fields=(
            *("arm", "intervention", "baseline", RELATION, "relation_low", "relation_high", "p_holm"),
            *COMPARISON_FIELDS,
            *[f"applied_{name}" for name in COMPARISON_FIELDS],
            *("images", "applied_images", "published_effect", "nll", "baseline_nll", "not_in_training"),
        ),
        records=tuple(records),
        legend=measure_legend(plans),
    )


def _effect_row(plans: PlanAnalysis, effect: Effect) -> tuple[Shown, ...]:
    score = plans.analysis.estimate(effect.arm.name, RELATION)
    published = published_effect(plans, effect)
    applied, images = _applied(effect)
    without = effect.whole == NO_BASELINE
    where_applied = _counted_difference(effect.applied) if applied else Shown("not applied", tone="quiet")
    return (
        Shown(effect.arm.name, tone="name"),
        Shown(effect.baseline.name) if effect.baseline else NONE,
        Shown(estimate_text(score)),
        NONE if without else _effect_cell(effect.whole, effect.p_holm),
        NONE if effect.p_holm is None else Shown(p_text(effect.p_holm)),
        NONE if without else where_applied,
        Shown(f"{applied} of {images}"),
        NONE if published is None else Shown(signed(published)),
        _nll_cell(effect),
    )


def _effect_record(plans: PlanAnalysis, effect: Effect) -> tuple[Value, ...]:
    score = plans.analysis.estimate(effect.arm.name, RELATION)
    return (
        effect.arm.name,
        effect.arm.intervention,
        effect.baseline.name if effect.baseline else None,
        *(score.mean, score.interval.low, score.interval.high),
        effect.p_holm,
        *comparison_record(effect.whole),
        *comparison_record(effect.applied),
        *reversed(_applied(effect)),
        published_effect(plans, effect),
        effect.arm.nll,
        effect.baseline.nll if effect.baseline else None,
        NOT_IN_TRAINING if effect.unseen else None,
    )


def _applied(effect: Effect) -> tuple[int, int]:
    """Return the number of images where an intervention was applied, and of all."""
    origins = effect.arm.drawn_from.values()
    return sum(origin.applied for origin in origins), len(origins)


def _effect_cell(comparison: Comparison | str, p_holm: float | None) -> Shown:
    """Return an effect with its interval, colored by the corrected p."""
    if isinstance(comparison, str):
        return Shown(comparison, tone="missing")
    tone = "quiet"
    if p_holm is not None and p_holm < ALPHA:
        tone = "good" if comparison.effect > 0 else "bad"
    return Shown(_difference(comparison.effect, comparison.interval), tone=tone)


def _nll_cell(effect: Effect) -> Shown:
    if effect.arm.nll is None:
        return NONE
    text = f"{effect.arm.nll:.2f}"
    if effect.baseline is not None and effect.baseline.nll is not None:
        text += f" (baseline {effect.baseline.nll:.2f})"
    return Shown(f"{text}, {NOT_IN_TRAINING}", tone="missing") if effect.unseen else Shown(text)


def _subsets(plans: PlanAnalysis) -> Table | None:
    found = []
    for effect in plans.effects:
        for name, comparison in plans.subset_effects(effect):
            found.append((effect.arm.name, name, comparison))
    if not found:
        return None
    names = sorted(dict.fromkeys(name for _, name, _ in found), key=_subset_order)
    by_place = {(arm, name): comparison for arm, name, comparison in found}
    rows = []
    for arm in dict.fromkeys(arm for arm, _, _ in found):
        cells = [by_place.get((arm, name)) for name in names]
        rows.append((Shown(arm, tone="name"), *map(_subset_cell, cells)))
    return Table(
        name="plan_subsets",
        title="The effects by kind of prompt and plan",
        note=(
            "The effect on the relation in the image, over the prompts of a kind: those with left, right,"
            " top or bottom (directional); those whose word has no side (symmetric); those of each word;"
            " those that name the objects in either order (phrasing); and those whose plan was right or"
            " wrong before the intervention. In brackets: number of prompts. Colored: p below 0.05, not"
            " corrected. The CSV has the intervals."
        ),
        header=("arm", *names),
        rows=tuple(rows),
        fields=("arm", "subset", *COMPARISON_FIELDS),
        records=tuple((arm, name, *comparison_record(comparison)) for arm, name, comparison in found),
        legend=measure_legend(plans),
    )


def _subset_cell(comparison: Comparison | str | None) -> Shown:
    if comparison is None or isinstance(comparison, str):
        return NONE
    text = f"{signed(comparison.effect)} ({comparison.prompts})"
    return Shown(text, tone=difference_cell(comparison).tone)


def _subset_order(name: str) -> tuple[int, str]:
    """Return the place of a subset: directions, then words, phrasings and plans."""
    if name in ("directional", "symmetric"):
        return 0, name
    return next(place for place, kind in enumerate(("word", "phrasing", "plan"), 1) if kind in name), name


def _counted_difference(comparison: Comparison | str) -> Shown:
    """Return a difference with interval, p and number of prompts, or the reason why there is none."""
    cell = difference_cell(comparison)
    if isinstance(comparison, str):
        return cell
    return Shown(f"{cell.text}, {comparison.prompts} prompts", tone=cell.tone)


def _difference(value: float, interval: Interval) -> str:
    return f"{signed(value)} ({span(interval, sign=True)})"
