"""The reward of a sample: a total over the scores of the components that its expression names."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from harness.reward.total import Total
from harness.types import Reward, Sample, Score

if TYPE_CHECKING:
    from harness.protocols import Component


def used_components(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of `rewards` that decide numbers: the canonical total and its components.

    This requires neither torch nor the components, so it can check a configuration when it is composed.

    Raises:
        ValueError: the total or a component it names is missing or malformed.
    """
    for key in ("total", "components"):
        if config.get(key) is None:
            raise ValueError(
                f"rewards.{key} is missing: a reward requires a total (an expression) and components "
                "(name: its class and settings)"
            )
    total = Total.parse(config["total"])
    components = config["components"]
    total.check(components)
    for name in sorted(total.names):
        entry = components[name]
        if not isinstance(entry, Mapping) or "_target_" not in entry:
            raise ValueError(f"rewards.components.{name} must name its class under _target_, got {entry!r}")
    used = {name: settings for name, settings in components.items() if name in total.names}
    return {"total": total.text, "components": used}


class RewardFunction:
    """Scores samples with every component that the total names, and combines them.

    Args:
        total: expression over the keys of `components`.
        components: the reward components by their names in the total. Others are never called.
    """

    def __init__(self, *, total: str, components: Mapping[str, Component]) -> None:
        self.total = Total.parse(total)
        self.total.check(components)
        names = self.total.names
        self.components = {name: component for name, component in components.items() if name in names}

    def __call__(self, samples: Sequence[Sample]) -> list[Reward]:
        """Return one reward per sample, in order.

        A sample with an unscored component has an unscored total, with the reason.

        Raises:
            ValueError: a component gave a value outside [0, 1], or did not give one score per sample.
        """
        scores = {name: self._scores(name, component, samples) for name, component in self.components.items()}
        rewards = []
        for index in range(len(samples)):
            rewards.append(self._reward({name: column[index] for name, column in scores.items()}))
        return rewards

    def _scores(self, name: str, component: Component, samples: Sequence[Sample]) -> list[Score]:
        scores = list(component(samples))
        if len(scores) != len(samples):
            raise ValueError(
                f"component {name!r} gave {len(scores)} scores for {len(samples)} samples; "
                "it must give one per sample, in order"
            )
        for sample, score in zip(samples, scores, strict=True):
            if score.value is not None and not 0 <= score.value <= 1:  # NaN fails this too
                raise ValueError(
                    f"component {name!r} gave {score.value} for prompt {sample.prompt.text!r}, "
                    "and a component must lie in [0, 1]: scale or clip it in its class, "
                    "or return an unscored Score where it has no value"
                )
        return scores

    def _reward(self, scores: Mapping[str, Score]) -> Reward:
        values = {name: score.value for name, score in scores.items() if score.value is not None}
        missing = [f"{name}: {score.unscored}" for name, score in scores.items() if score.value is None]
        if missing:
            return Reward(total=Score(value=None, unscored="; ".join(missing)), components=scores)
        value = self.total.evaluate(values)
        if not math.isfinite(value):
            raise ValueError(
                f"rewards.total {self.total.text!r} gave {value} for {values}: use smaller constants"
            )
        return Reward(total=Score(value=value, evidence={"expression": self.total.text}), components=scores)
