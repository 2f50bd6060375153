"""The components of a cell, each checked to be a subclass of its role's base class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness import protocols
from harness.composition.components import make
from harness.interventions.case import Intervention

ROLES: dict[str, tuple[type, ...]] = {
    "benchmarks": (protocols.Benchmark,),
    "policies": (protocols.PolicyRecipe, protocols.ImageSource),
    "trainers": (protocols.Trainer,),
    "evaluation.agreement": (protocols.Scorer,),
    "intervention": (Intervention,),
    "advantage": (protocols.Advantage,),
    "ratio": (protocols.Ratio,),
}


def make_component(group: str, settings: Mapping[str, Any]) -> Any:
    """The component of a group, or of `evaluation.agreement`, that `ROLES` lists.

    Raises:
        ValueError: its class has no base class of the group, or it refuses its settings (or whatever else
            its constructor raises).
    """
    component = make(settings)
    checked_class(group, type(component))
    return component


def checked_class(group: str, made: type) -> Any:
    """The class, if it has a base class of the group.

    Raises:
        ValueError: it has none; names the group, the class and the base classes.
    """
    if not issubclass(made, ROLES[group]):
        bases = " or ".join(map(_shown, ROLES[group]))
        raise ValueError(
            f"the class of {group}=, {made.__module__}.{made.__qualname__}, must be a subclass of {bases}."
            f" Write class {made.__name__}({ROLES[group][0].__name__})"
        )
    return made


def _shown(base: type) -> str:
    """Where users import a base class from."""
    module = protocols.__name__ if hasattr(protocols, base.__name__) else base.__module__
    return f"{module}.{base.__name__}"
