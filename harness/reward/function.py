"""The reward of a sample: a total over the scores of the components that its expression names."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from harness.plugin_values import scores
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

        A component may also give plain numbers, and None for an unscored sample. A sample with an unscored
        component has an unscored total, with the reason.

        Raises:
            ValueError: a component did not give one score per sample, in [0, 1] and with evidence of JSON
                values.
        """
        columns = {}
        for name, component in self.components.items():
            columns[name] = scores(component(samples), samples, f"component {name!r}")
        rewards = []
        for index in range(len(samples)):
            rewards.append(self._reward({name: column[index] for name, column in columns.items()}))
        return rewards

    def _reward(self, named: Mapping[str, Score]) -> Reward:
        values = {name: score.value for name, score in named.items() if score.value is not None}
        missing = [f"{name}: {score.unscored}" for name, score in named.items() if score.value is None]
        if missing:
            return Reward(total=Score(value=None, unscored="; ".join(missing)), components=named)
        value = self.total.evaluate(values)
        if not math.isfinite(value):
            raise ValueError(
                f"rewards.total {self.total.text!r} gave {value} for {values}: use smaller constants"
            )
        return Reward(total=Score(value=value, evidence={"expression": self.total.text}), components=named)
