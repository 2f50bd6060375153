"""The tables of a study of plans beside its effects: dose, best of K, blind metrics, and counts."""

from __future__ import annotations

from harness.analysis.measures import RELATION
from harness.analysis.plan_checks import BestOf, Blindness, Counts, Dose, best_of, blindness, counts, doses
from harness.analysis.plans import RULES, PlanAnalysis
from harness.analysis.statistics import Estimate
from harness.report.cells import estimate_text
from harness.report.legend import legend
from harness.report.summary import REASONS_SHOWN
from harness.report.table import Shown, Table, Value

NONE = Shown("–")
_CHECK = ("verdict", "score", "mirrored", "drop", "low", "high", "images", "prompts")


def check_tables(plans: PlanAnalysis) -> list[Table]:
    """Return the tables for which the study has arms."""
    tables = [_doses(plans), _best_of(plans), _blindness(plans), _counts(plans)]
    return [table for table in tables if table is not None]


def unchanged(plans: PlanAnalysis) -> str:
    """Return a sentence on every intervention that changed no chain, each after a blank."""
    text = ""
    for count in counts(plans):
        if count.applied == 0:
            text += (
                f" Intervention {count.intervention} changed none of {count.images} chains"
                f" ({_reasons(count)}): the arm {count.arm} equals {count.baseline or 'its baseline'}."
            )
    return text


def _doses(plans: PlanAnalysis) -> Table | None:
    found = doses(plans)
    if not found:
        return None
    fields = [f"right_{rule}{end}" for rule in RULES for end in ("", "_low", "_high", "_before")]
    return Table(
        name="plan_dose",
        title="Dose: how far apart the boxes are, and how often the relation is right",
        note=(
            "Distances are between the centers of the two boxes on the axis of the relation, as a share of"
            " the canvas: the mean over the images where boxes were moved. Then the share of right images by"
            " the benchmark's own rule and by the order of centers, with 95% interval, and in the baseline on"
            " the same prompts."
        ),
        header=("arm", "distance before", "distance", *_before_and_after(), "images"),
        rows=tuple(map(_dose_row, found)),
        fields=("arm", "distance_before", "distance", *fields, "images"),
        records=tuple(map(_dose_record, found)),
        legend=legend(plans.analysis, [RELATION]),
    )


def _before_and_after() -> list[str]:
    names = []
    for rule in RULES:
        names += [f"right before ({rule})", f"right ({rule})"]
    return names


def _dose_row(dose: Dose) -> tuple[Shown, ...]:
    cells = [Shown(dose.arm, tone="name"), Shown(f"{dose.margin_before:.3f}"), Shown(f"{dose.margin:.3f}")]
    for rule in RULES:
        cells += [Shown(_mean(dose.right_before[rule])), Shown(estimate_text(dose.right[rule]))]
    return *cells, Shown(str(dose.images))


def _dose_record(dose: Dose) -> tuple[Value, ...]:
    record: list[Value] = [dose.arm, dose.margin_before, dose.margin]
    for rule in RULES:
        right = dose.right[rule]
        record += [right.mean, right.interval.low, right.interval.high, dose.right_before[rule].mean]
    return *record, dose.images


def _best_of(plans: PlanAnalysis) -> Table | None:
    points = best_of(plans)
    if not points:
        return None
    return Table(
        name="plan_best_of",
        title="Best of K: the first right plan among K chains",
        note=(
            "Plan right: the share of prompts with a right plan among the first K chains, with 95%"
            " interval. Independent: 1 − (1 − p)^K, which the share would be if every prompt were equally"
            " hard; p is the share at K = 1. Image right: the share of right images of the arm that chooses"
            " among K."
        ),
        header=("checkpoint", "K", "plan right", "independent", "image right"),
        rows=tuple(map(_best_row, points)),
        fields=(
            *("checkpoint", "k", "plan_right", "plan_right_low", "plan_right_high", "independent"),
            *("image_right", "image_right_low", "image_right_high"),
        ),
        records=tuple(map(_best_record, points)),
        legend=legend(plans.analysis, [RELATION]),
    )


def _best_row(point: BestOf) -> tuple[Shown, ...]:
    return (
        Shown(point.checkpoint, tone="name"),
        Shown(str(point.k)),
        Shown(estimate_text(point.plan_right)),
        Shown(f"{point.independent:.3f}"),
        Shown(estimate_text(point.relation)) if point.relation else NONE,
    )


def _best_record(point: BestOf) -> tuple[Value, ...]:
    plan, image = point.plan_right, point.relation
    relation: tuple[Value, ...] = (None, None, None)
    if image is not None:
        relation = image.mean, image.interval.low, image.interval.high
    intervals = plan.interval.low, plan.interval.high
    return point.checkpoint, point.k, plan.mean, *intervals, point.independent, *relation


def _blindness(plans: PlanAnalysis) -> Table | None:
    found = blindness(plans)
    if not found:
        return None
    return Table(
        name="plan_blind",
        title="Which scores notice exchanged boxes?",
        note=(
            "The mean score on prompts with left, right, top or bottom, before and after the boxes of"
            " subject and object are exchanged. A score falls where the 95% interval of the drop lies above"
            f" 0, else it is blind to the exchange. Where {RELATION} does not fall either, images do not"
            " follow plans, or as many plans were wrong before: then no score can show whether it is blind."
        ),
        header=("arm", "score", "before", "after", "drop", "verdict", "prompts"),
        rows=tuple(map(_blind_row, found)),
        fields=("arm", "column", "verdict", "before", "after", "drop", "low", "high", "images", "prompts"),
        records=tuple((one.arm, one.column, *[one.check[name] for name in _CHECK]) for one in found),
        legend=legend(plans.analysis, plans.analysis.columns),
    )


def _blind_row(found: Blindness) -> tuple[Shown, ...]:
    check = found.check
    drop = f"{check['drop']:.3f}"
    if check["low"] is not None:
        drop += f" ({check['low']:.3f} to {check['high']:.3f})"
    return (
        Shown(found.arm, tone="name"),
        Shown(found.column),
        Shown(f"{check['score']:.3f}"),
        Shown(f"{check['mirrored']:.3f}"),
        Shown(drop.replace("-", "−")),
        Shown(check["verdict"], tone="bad" if found.blind else ""),
        Shown(str(check["prompts"])),
    )


def _counts(plans: PlanAnalysis) -> Table:
    found = list(counts(plans))
    return Table(
        name="plan_counts",
        title="What was applied, what came back, what was not measured",
        note=(
            "Applied: on how many images the intervention could be applied, and why not on the others. Round"
            " trip: the share of own chains whose ids come back when their text is encoded again. Unscored:"
            " images whose relation was not measured; they are in no share. Without a relation: images whose"
            f" prompt says none.{unchanged(plans)}"
        ),
        header=(
            *("arm", "intervention", "images", "applied", "round trip", "unscored", "without a relation"),
            "not applied because",
        ),
        rows=tuple(map(_count_row, found)),
        fields=(
            *("arm", "intervention", "baseline", "images", "applied", "round_trip", "unscored"),
            *("without_relation", "reasons"),
        ),
        records=tuple(map(_count_record, found)),
    )


def _count_row(count: Counts) -> tuple[Shown, ...]:
    trip = NONE if count.round_trip is None else Shown(f"{count.round_trip:.3f}")
    return (
        Shown(count.arm, tone="name"),
        Shown(count.intervention),
        Shown(str(count.images)),
        Shown(str(count.applied)),
        trip,
        Shown(str(count.unscored)),
        Shown(str(count.no_relation)),
        Shown(_reasons(count) or "–"),
    )


def _count_record(count: Counts) -> tuple[Value, ...]:
    numbers = (count.images, count.applied, count.round_trip, count.unscored, count.no_relation)
    return count.arm, count.intervention, count.baseline, *numbers, _reasons(count) or None


def _reasons(count: Counts) -> str:
    """Return the most frequent reasons with their numbers, and the number of the others."""
    texts = [f"{number}: {reason}" for reason, number in count.reasons.items()]
    shown, others = texts[:REASONS_SHOWN], sum(list(count.reasons.values())[REASONS_SHOWN:])
    return "; ".join([*shown, *([f"{others}: other reasons"] if others else [])])


def _mean(estimate: Estimate) -> str:
    return "unscored" if estimate.mean is None else f"{estimate.mean:.3f}"
