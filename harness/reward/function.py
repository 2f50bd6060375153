"""The reward of a sample: a total over the scores of the components that its expression names."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from harness.plugin_values import scores
from harness.reward.total import Total
from harness.settings import choice
from harness.types import Reward, Sample, Score

if TYPE_CHECKING:
    from harness.protocols import Component

SCOPES = ("chain", "image", "both")


def used_components(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of `rewards` that decide numbers: the canonical total, its components, scopes.

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
    used = {
        "total": total.text,
        "components": {name: settings for name, settings in components.items() if name in total.names},
    }
    scopes = _scopes(config.get("scopes") or {}, components)
    scopes = {name: scope for name, scope in scopes.items() if name in total.names}
    return {**used, "scopes": scopes} if scopes else used


def _scopes(scopes: Mapping[str, Any], components: Mapping[str, Any]) -> Mapping[str, Any]:
    for name, scope in scopes.items():
        if name not in components:
            raise ValueError(
                f"rewards.scopes names {name!r}, which is no component. Known components: "
                f"{', '.join(components)}"
            )
        choice(f"rewards.scopes.{name}", scope, ("chain", "image"))
    return scopes


class RewardFunction:
    """Scores samples with every component that the total names, and combines them.

    Args:
        total: expression over the keys of `components`.
        components: the reward components by their names in the total. Others are never called.
        scopes: component -> the stage that it counts for, `chain` or `image`, in place of its own scope.
    """

    def __init__(
        self, *, total: str, components: Mapping[str, Component], scopes: Mapping[str, str] | None = None
    ) -> None:
        self.total = Total.parse(total)
        self.total.check(components)
        names = self.total.names
        self.components = {name: component for name, component in components.items() if name in names}
        self._scopes = dict(scopes or {})

    @property
    def scopes(self) -> dict[str, str]:
        """Component -> `chain`, `image` or `both`: what its score depends on.

        Raises:
            ValueError: a component does not say.
        """
        scopes = {}
        for name, component in self.components.items():
            scope = self._scopes.get(name) or getattr(component, "scope", None)
            if scope not in SCOPES:
                raise ValueError(
                    f"component {name!r} has the scope {scope!r}: credit between chain and image requires"
                    f" one of {', '.join(SCOPES)}. Give its class a `scope`, or set rewards.scopes.{name}"
                )
            scopes[name] = scope
        return scopes

    @property
    def needs_certainty(self) -> bool:
        """Whether a component reads `Sample.certainty`."""
        return any(getattr(component, "needs_certainty", False) for component in self.components.values())

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
