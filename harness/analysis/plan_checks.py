"""What a study of plans says beside its effects: blind metrics, dose, best of K, and what was applied."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from harness.analysis import mirror
from harness.analysis.measures import MEASURES, PLAN_RIGHT, RELATION
from harness.analysis.plans import REENCODED, RULES, SWAP, VERIFY, Image, PlanAnalysis, PlanArm
from harness.analysis.statistics import Estimate, estimate, prompt_means

_PARTICULAR = re.compile(r"""'[^']*'|"[^"]*"|\d+(?= ids)""")


@dataclass(frozen=True, kw_only=True)
class Blindness:
    """Whether the scores of a column fall when the boxes of subject and object are exchanged.

    `check` is as `harness.analysis.mirror.verdict` returns it, with the scores after the exchange as
    `mirrored`.
    """

    arm: str
    column: str
    check: Mapping[str, Any]

    @property
    def blind(self) -> bool:
        return bool(self.check["verdict"] == mirror.BLIND)


@dataclass(frozen=True, kw_only=True)
class Dose:
    """An arm that moves boxes apart: the share of right images over the distance that it achieved.

    `margin` is the mean distance of the centers as a share of the canvas, `margin_before` that of the own
    chains. `right` and `right_before` are rule -> share of right images, over the same images of the arm and
    of its baseline.
    """

    arm: str
    margin: float
    margin_before: float
    right: Mapping[str, Estimate]
    right_before: Mapping[str, Estimate]
    images: int


@dataclass(frozen=True, kw_only=True)
class BestOf:
    """The best of `k` chains of a checkpoint.

    `plan_right` is the share of prompts that have a right chain among the first k. `independent` is
    1 - (1 - p)^k: the share if every prompt were equally hard. `relation` is the share of right images of the
    arm that chooses among k; None without that arm.
    """

    checkpoint: str
    k: int
    plan_right: Estimate
    independent: float
    relation: Estimate | None


@dataclass(frozen=True, kw_only=True)
class Counts:
    """What an arm drew. `reasons` counts why it was not applied, the most frequent first.

    `round_trip` is the share of own chains whose ids come back from their text, for the arm that encodes it
    again. `unscored` counts the images whose relation was not measured, `no_relation` those whose prompt
    says none.
    """

    arm: str
    intervention: str
    baseline: str | None
    images: int
    applied: int
    reasons: Mapping[str, int]
    round_trip: float | None
    unscored: int
    no_relation: int


def blindness(plans: PlanAnalysis) -> list[Blindness]:
    """Return the effect of exchanged boxes on every column of scores and on the relation."""
    analysis = plans.analysis
    relations = [column for column in analysis.measures if column.startswith(RELATION)]
    found = []
    for arm in plans.arms.values():
        baseline = plans.baseline(arm)
        if arm.intervention != SWAP or baseline is None:
            continue
        for column in (*analysis.categories, *relations):
            before, after = (_scores(plans, one, column) for one in (baseline, arm))
            pairs = [(image[1], before[image], after[image]) for image in after if image in before]
            check = mirror.verdict(pairs)
            if check is not None:
                found.append(Blindness(arm=arm.name, column=column, check=check))
    return found


def _scores(plans: PlanAnalysis, arm: PlanArm, column: str) -> dict[Image, float]:
    """Return the scores of an arm's images in a column, on prompts with left, right, top or bottom."""
    scores = {}
    for cell in plans.analysis.measured_cells(arm.name):
        for row in cell.rows:
            image = (cell.seed, row.prompt_id, row.number)
            plan = arm.plans.get(image)
            if row.category == column and row.value is not None and plan and plan.directional:
                scores[image] = row.value
    return scores


def doses(plans: PlanAnalysis) -> list[Dose]:
    """Return the dose of every arm that records the distance it achieved."""
    found = []
    for arm in plans.arms.values():
        details = {}
        for image, origin in arm.drawn_from.items():
            if "achieved_margin" in origin.details:
                details[image] = origin.details
        baseline = plans.baseline(arm)
        if not details or baseline is None:
            continue
        found.append(
            Dose(
                arm=arm.name,
                margin=fmean(entry["achieved_margin"] for entry in details.values()),
                margin_before=fmean(entry["margin"] for entry in details.values()),
                right=_right(arm, details.__contains__),
                right_before=_right(baseline, details.__contains__),
                images=len(details),
            )
        )
    return found


def _right(arm: PlanArm, keep: Callable[[Image], bool]) -> dict[str, Estimate]:
    """Return rule -> the share of right images among those to keep."""
    return {rule: _share(arm, RELATION + end, keep) for rule, end in RULES.items()}


def _share(arm: PlanArm, measure: str, keep: Callable[[Image], bool]) -> Estimate:
    """Return the mean of a measure over the images with a relation that are to be kept."""
    rows = []
    for image, plan in arm.plans.items():
        if plan.relation is not None and keep(image):
            rows.append((plan.prompt_id, getattr(plan, MEASURES[measure])))
    return estimate(prompt_means(rows))


def best_of(plans: PlanAnalysis) -> list[BestOf]:
    """Return the curve of every checkpoint up to the largest number of chains that an arm chooses from.

    The arms are nested: all take their chains in the same order.
    """
    found: list[BestOf] = []
    for own in plans.checkpoints:
        arms = {1: own}
        for arm in plans.arms.values():
            if arm.intervention == VERIFY and arm.chains == own.chains:
                arms[arm.candidates] = arm
        most = max(arms)
        p = _share(own, PLAN_RIGHT, lambda image: True).mean
        if most == 1 or p is None:
            continue
        for k in range(1, most + 1):
            found.append(
                BestOf(
                    checkpoint=own.name,
                    k=k,
                    plan_right=right_within(arms[most], k),
                    independent=1 - (1 - p) ** k,
                    relation=_share(arms[k], RELATION, lambda image: True) if k in arms else None,
                )
            )
    return found


def right_within(arm: PlanArm, k: int) -> Estimate:
    """Return the share of images whose right chain is among the first k."""
    rows = []
    for image, plan in arm.plans.items():
        if plan.relation is not None and plan.plan_right is not None:
            chosen = arm.drawn_from[image].details.get("candidate", 0)
            rows.append((plan.prompt_id, float(plan.plan_right and chosen < k)))
    return estimate(prompt_means(rows))


def _kind(reason: str) -> str:
    """Return a reason without the names and lengths of its chain, which differ for every prompt."""
    return _PARTICULAR.sub("…", reason)


def counts(plans: PlanAnalysis) -> Iterator[Counts]:
    """Yield what every arm drew."""
    for arm in plans.arms.values():
        baseline, origins = plans.baseline(arm), list(arm.drawn_from.values())
        reasons = Counter(_kind(str(origin.reason)) for origin in origins if not origin.applied)
        returned = fmean(origin.own_ids for origin in origins)
        yield Counts(
            arm=arm.name,
            intervention=arm.intervention,
            baseline=baseline.name if baseline else None,
            images=len(origins),
            applied=sum(origin.applied for origin in origins),
            reasons=dict(reasons.most_common()),
            round_trip=returned if arm.intervention == REENCODED else None,
            unscored=sum(
                plan.relation is not None and plan.image_right is None for plan in arm.plans.values()
            ),
            no_relation=sum(plan.relation is None for plan in arm.plans.values()),
        )
