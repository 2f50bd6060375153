"""Credit: what each stage of a sample, chain and image, is rewarded for, and by how much.

A component's scope says what its score depends on: the chain, the image, or both. A component of scope both
counts for the image, unless the reward says otherwise (`scopes`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.protocols import Advantage
from harness.reward.total import Total
from harness.types import Grade

STAGES = ("chain", "image")
KINDS = ("total", "causal", "split", "chain", "image")
ROUTED = ("causal", "split")  # the kinds that ask for scopes
WHOLE = {  # kind -> the stages that answer for the whole sample
    "total": ("chain", "image"),
    "causal": ("chain",),
    "split": (),
    "chain": ("chain",),
    "image": ("image",),
}

StageValues = Mapping[str, float]  # stage -> a number


@dataclass(frozen=True, kw_only=True)
class Scored:
    """What credit asks of a scored sample: component -> value, and stage -> what is taken off its total."""

    components: Mapping[str, float]
    deductions: StageValues


def parts(kind: str, total: Total, scopes: Mapping[str, str]) -> dict[str, Total | None]:
    """Stage -> the expression that its actions are rewarded for; None: its actions get no advantage.

    Args:
        kind: `total`: both stages by the total. `causal`: the image without what the chain alone has earned.
            `split`: each stage by its own components. `chain`, `image`: the total trains that stage alone.
        total: the expression of the reward.
        scopes: component -> `chain`, `image` or `both`. Only causal and split read it.
    """
    if kind == "total":
        return dict.fromkeys(STAGES, total)
    if kind in STAGES:
        return {stage: total if stage == kind else None for stage in STAGES}
    for_chain = frozenset(name for name in total.names if scopes[name] == "chain")
    image = total.part(total.names - for_chain)
    return {"chain": total if kind == "causal" else total.part(for_chain), "image": image}


class Credit:
    """Gives each stage of every sample of a step its advantage.

    Args:
        kind: as for `parts`.
        advantage: turns grades into advantages, for one stage at a time.
        total: the expression of the reward.
        scopes: component -> scope.
        clip: the largest size of an advantage; None: no bound.
    """

    def __init__(
        self,
        kind: str,
        advantage: Advantage,
        total: Total,
        scopes: Mapping[str, str],
        clip: float | None,
    ) -> None:
        self._parts, self._whole = parts(kind, total, scopes), WHOLE[kind]
        self._advantage, self._clip = advantage, clip

    def __call__(self, groups: Sequence[Sequence[Scored | None]]) -> list[list[StageValues | None]]:
        """The advantages of every sample, stage by stage.

        Args:
            groups: the samples of the whole step, group after group; None: unscored.

        Returns:
            Lists of the same lengths; None for an unscored sample, which teaches nothing.
        """
        scored = [[sample for sample in group if sample is not None] for group in groups]
        by_stage = {stage: self._stage(stage, scored) for stage in STAGES}
        credits: list[list[StageValues | None]] = []
        for number, group in enumerate(groups):
            values = iter(zip(*(by_stage[stage][number] for stage in STAGES), strict=True))
            credits.append(
                [None if sample is None else dict(zip(STAGES, next(values), strict=True)) for sample in group]
            )
        return credits

    def _stage(self, stage: str, groups: Sequence[Sequence[Scored]]) -> list[list[float]]:
        part = self._parts[stage]
        if part is None:
            return [[0.0] * len(group) for group in groups]
        grades = [[self._grade(stage, part, sample) for sample in group] for group in groups]
        advantages = self._advantage(grades)
        if self._clip is None:
            return advantages
        return [[min(max(value, -self._clip), self._clip) for value in group] for group in advantages]

    def _grade(self, stage: str, part: Total, sample: Scored) -> Grade:
        taken_off = sample.deductions.get(stage, 0.0)
        if stage in self._whole:
            taken_off = sum(sample.deductions.values())
        return Grade(
            total=part.evaluate(sample.components) - taken_off,
            components={name: sample.components[name] for name in sorted(part.names)},
        )


def has_spread(group: Sequence[StageValues | None]) -> bool:
    """Whether a sample of the group has an advantage in any stage."""
    return any(value for advantages in group if advantages is not None for value in advantages.values())
