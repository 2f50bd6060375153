"""The components of a cell, each checked to be a subclass of its role's base class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness import protocols
from harness.composition.components import make

ROLES: dict[str, tuple[type, ...]] = {
    "benchmarks": (protocols.Benchmark,),
    "policies": (protocols.PolicyRecipe, protocols.ImageSource),
    "trainers": (protocols.Trainer,),
    "evaluation.agreement": (protocols.Scorer,),
}


def make_component(group: str, settings: Mapping[str, Any]) -> Any:
    """The component of a group (`benchmarks`, `policies` or `trainers`) or of `evaluation.agreement`.

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
        bases = " or ".join(f"harness.protocols.{base.__name__}" for base in ROLES[group])
        raise ValueError(
            f"the class of {group}=, {made.__module__}.{made.__qualname__}, must be a subclass of {bases}."
            f" Write class {made.__name__}({ROLES[group][0].__name__})"
        )
    return made
