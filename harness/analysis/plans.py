"""The analysis of a study of plans: attribution by checkpoint, and the effect of every intervention.

An arm is a checkpoint with an intervention. Its effect is the difference to its baseline: the arm with the
intervention that it names as baseline, on the same checkpoint with the same prompts and settings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import combinations
from statistics import fmean

import numpy as np

from harness.analysis.attribution import Attribution, Split, attribute, prompt_shares, split
from harness.analysis.contrasts import Comparison, compare
from harness.analysis.measures import CENTERS, MEASURES, PLAN_RIGHT, RELATION
from harness.analysis.results import CellResult
from harness.analysis.statistics import holm, prompt_means
from harness.analysis.study import DONE, Analysis
from harness.plan_rows import PlanRow
from harness.relations import SYMMETRIC
from harness.samples import DrawnFrom, SampleRow

OWN, REENCODED, SWAP, VERIFY = "own", "reencoded", "swap", "verify"
CHAINS = "chains"  # the stage of the chains that a checkpoint writes
RULES = {"own": "", "centers": CENTERS}  # rule of a relation -> how its measures end
UNSEEN_NATS = 1.0  # per id, above the baseline: such chains were not in training
NO_BASELINE = "no arm of its baseline"

Image = tuple[int, str, int]  # seed of the cell, prompt id, number
Rows = list[tuple[str, bool, bool]]  # prompt id, whether its plan is right, whether its image is right


@dataclass(frozen=True, kw_only=True)
class PlanArm:
    """A measured arm with an intervention.

    `chains` are the keys of its stages of chains, by seed: arms with equal ones have checkpoint, prompts and
    settings in common. `stages` counts the stages before. `candidates` is how many chains of a prompt the
    intervention chooses from.
    """

    name: str
    intervention: str
    chains: Mapping[int, str]
    stages: int
    candidates: int
    samples: Mapping[Image, SampleRow]
    drawn_from: Mapping[Image, DrawnFrom]
    plans: Mapping[Image, PlanRow]

    @property
    def seeds(self) -> list[int]:
        return list(self.chains)

    @property
    def nll(self) -> float | None:
        """The mean over images of -log p per id of the chain, in nats."""
        values = [plan.nll for plan in self.plans.values() if plan.nll is not None]
        return fmean(values) if values else None


@dataclass(frozen=True, kw_only=True)
class Change:
    """What changed from the checkpoint of the arm `first` to that of `second`, by one rule.

    `p` and `right` compare the shares of right plans and of right images; `a` that of right images on images
    whose plans are right with both checkpoints. Their p-values are not corrected.
    """

    first: str
    second: str
    rule: str
    split: Split
    p: Comparison | str
    a: Comparison | str
    right: Comparison | str


@dataclass(frozen=True, kw_only=True)
class Effect:
    """The effect of an arm's intervention on the relation in the image, against `baseline`.

    `whole` is over all prompts with a relation, `applied` over the images where it was applied; a text is the
    reason why there is none. `p_holm` is corrected over the arms of the study.
    """

    arm: PlanArm
    baseline: PlanArm | None
    whole: Comparison | str
    applied: Comparison | str
    p_holm: float | None = None

    @property
    def unseen(self) -> bool:
        """Whether the model finds the arm's chains so improbable that training had none like them."""
        if self.baseline is None or self.arm.nll is None or self.baseline.nll is None:
            return False
        return self.arm.nll > self.baseline.nll + UNSEEN_NATS


class PlanAnalysis:
    """Attribution and effects of a study of plans, each computed once; without arms in other studies."""

    def __init__(self, analysis: Analysis) -> None:
        self.analysis = analysis
        self.arms: dict[str, PlanArm] = {}
        for name in analysis.arms:
            cells = analysis.measured_cells(name)
            if analysis.state(name) == DONE and all(map(_is_drawn, cells)):
                self.arms[name] = _arm(name, cells)

    def baseline(self, arm: PlanArm) -> PlanArm | None:
        """Return the arm that an arm is compared with, None where the study has none."""
        wanted = (self.analysis.study.study.get("baselines") or {}).get(arm.intervention)
        return None if wanted == arm.intervention else self.on_checkpoint(arm, wanted)

    def on_checkpoint(self, arm: PlanArm, intervention: str | None) -> PlanArm | None:
        """Return the first arm with this intervention on the checkpoint of an arm."""
        for other in self.arms.values():
            if other.intervention == intervention and other.chains == arm.chains:
                return other
        return None

    @cached_property
    def checkpoints(self) -> list[PlanArm]:
        """The arms that draw from the own chains, those with fewer stages of training first."""
        own = [arm for arm in self.arms.values() if arm.intervention == OWN]
        return sorted(own, key=lambda arm: arm.stages)

    @cached_property
    def attributions(self) -> dict[tuple[str, str], Attribution]:
        """(arm of a checkpoint, rule) -> its attribution, without those that have no measured image."""
        found = {}
        for arm in self.checkpoints:
            for rule in RULES:
                if (attribution := attribute(_rows(arm, rule))) is not None:
                    found[arm.name, rule] = attribution
        return found

    @cached_property
    def changes(self) -> list[Change]:
        """The change between every two checkpoints whose relations were measured alike, by either rule."""
        found = []
        for first, second in combinations(self.checkpoints, 2):
            for rule, end in RULES.items():
                right = self.analysis.compare(second.name, first.name, RELATION + end)
                parts = split(*(prompt_shares(_rows(arm, rule)) for arm in (first, second)))
                if parts is None or isinstance(right, str):
                    continue
                found.append(
                    Change(
                        first=first.name,
                        second=second.name,
                        rule=rule,
                        split=parts,
                        p=self.analysis.compare(second.name, first.name, PLAN_RIGHT + end),
                        a=_drawing_of_right_plans(first, second, end),
                        right=right,
                    )
                )
        return found

    @cached_property
    def effects(self) -> list[Effect]:
        """The effect of every measured arm."""
        effects = [self._effect(arm) for arm in self.arms.values()]
        p_values = {
            effect.arm.name: effect.whole.p for effect in effects if isinstance(effect.whole, Comparison)
        }
        corrected = dict(zip(p_values, holm(list(p_values.values())), strict=True))
        return [replace(effect, p_holm=corrected.get(effect.arm.name)) for effect in effects]

    def _effect(self, arm: PlanArm) -> Effect:
        baseline = self.baseline(arm)
        if baseline is None:
            return Effect(arm=arm, baseline=None, whole=NO_BASELINE, applied=NO_BASELINE)
        whole = self.analysis.compare(arm.name, baseline.name, RELATION)
        applied = whole
        if isinstance(whole, Comparison):
            applied = compare_images(arm, baseline, lambda image: arm.drawn_from[image].applied)
        return Effect(arm=arm, baseline=baseline, whole=whole, applied=applied)

    def subset_effects(self, effect: Effect) -> Iterator[tuple[str, Comparison | str]]:
        """Yield the effect on the prompts of every subset that the arm has: name and comparison."""
        arm, baseline = effect.arm, effect.baseline
        if baseline is None or isinstance(effect.whole, str):
            return
        subsets: dict[str, set[Image]] = {}
        for image, plan in arm.plans.items():
            phrasing = arm.samples[image].facts.get("phrasing")
            for name in _subsets(plan, baseline.plans.get(image), phrasing):
                subsets.setdefault(name, set()).add(image)
        for name, images in subsets.items():
            yield name, compare_images(arm, baseline, images.__contains__)


@lru_cache(maxsize=1)  # tables, figures and head of a report show the same numbers
def plan_analysis(analysis: Analysis) -> PlanAnalysis:
    """Return the analysis of the plans of a study."""
    return PlanAnalysis(analysis)


def compare_images(
    arm: PlanArm, baseline: PlanArm, keep: Callable[[Image], bool], measure: str = RELATION
) -> Comparison | str:
    """Return the effect of an arm on the images to keep, or the reason why there is none."""
    means = []
    for seed in arm.seeds:
        means.append([_prompt_means(one, seed, keep, measure) for one in (arm, baseline)])
    prompts = sorted({prompt for better, than in means for prompt in (*better, *than)})
    rows = []
    for better, than in means:
        left = np.array([better.get(prompt) for prompt in prompts], dtype=float)
        rows.append(left - np.array([than.get(prompt) for prompt in prompts], dtype=float))
    return compare({measure: np.array(rows)})


def _prompt_means(
    arm: PlanArm, seed: int, keep: Callable[[Image], bool], measure: str
) -> dict[str, float | None]:
    rows = []
    for image, plan in arm.plans.items():
        if image[0] == seed and plan.relation is not None and keep(image):
            rows.append((plan.prompt_id, getattr(plan, MEASURES[measure])))
    return prompt_means(rows)


def _is_drawn(cell: CellResult) -> bool:
    """Whether all images of a cell were drawn with an intervention, and its plans measured."""
    return bool(cell.plans and cell.samples) and all(row.drawn_from for row in cell.samples or ())


def _arm(name: str, cells: list[CellResult]) -> PlanArm:
    samples: dict[Image, SampleRow] = {}
    drawn_from: dict[Image, DrawnFrom] = {}
    plans: dict[Image, PlanRow] = {}
    chains = {}
    for cell in cells:
        chains[cell.seed] = next((stage.key for stage in cell.stages if stage.name == CHAINS), "")
        for row in cell.samples or ():
            assert row.drawn_from is not None
            image = (cell.seed, row.prompt_id, row.number)
            samples[image], drawn_from[image] = row, row.drawn_from
        for plan in cell.plans or ():
            plans[cell.seed, plan.prompt_id, plan.number] = plan
    names = [stage.name for stage in cells[0].stages]
    return PlanArm(
        name=name,
        intervention=next(iter(drawn_from.values())).intervention,
        chains=chains,
        stages=names.index(CHAINS) if CHAINS in names else 0,
        candidates=1 + sum(stage.startswith(f"{CHAINS}-") for stage in names),
        samples=samples,
        drawn_from=drawn_from,
        plans=plans,
    )


def _rows(arm: PlanArm, rule: str) -> Rows:
    """Return the images of an arm whose plan and relation were measured by a rule."""
    rows = []
    for plan in arm.plans.values():
        plan_right, image_right = _measured(plan, PLAN_RIGHT, rule), _measured(plan, RELATION, rule)
        if plan.relation is not None and plan_right is not None and image_right is not None:
            rows.append((plan.prompt_id, plan_right, image_right))
    return rows


def _measured(plan: PlanRow, measure: str, rule: str) -> bool | None:
    value: bool | None = getattr(plan, MEASURES[measure + RULES[rule]])
    return value


def _drawing_of_right_plans(first: PlanArm, second: PlanArm, end: str) -> Comparison | str:
    """Return the difference of right images between two checkpoints where the plans of both are right."""
    field = MEASURES[PLAN_RIGHT + end]

    def both(image: Image) -> bool:
        plans = [arm.plans.get(image) for arm in (first, second)]
        return all(plan is not None and getattr(plan, field) for plan in plans)

    if not any(map(both, second.plans)):
        return "no plan is right with both"
    return compare_images(second, first, both, RELATION + end)


def _subsets(plan: PlanRow, before: PlanRow | None, phrasing: object) -> Iterator[str]:
    """Yield the names of the subsets that an image belongs to.

    Args:
        plan: its row.
        before: its row in the baseline, whose plan is the one before the intervention.
        phrasing: of its prompt: direct, inverse, or not known.
    """
    if plan.relation is None:
        return
    if plan.directional:
        yield "directional"
    if plan.relation in SYMMETRIC:
        yield "symmetric"
    yield f"word: {plan.relation}"
    if phrasing in ("direct", "inverse"):
        yield f"{phrasing} phrasing"
    if before is not None and before.plan_right is not None:
        yield "plan right before" if before.plan_right else "plan wrong before"
