"""The policy of an evaluation, which only draws."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.composition.components import make

if TYPE_CHECKING:
    from harness.protocols import Policy, PolicyRecipe


def load_to_draw(settings: Mapping[str, Any], checkpoint: Path) -> Policy:
    """Load a policy for drawing alone, in as little memory as its recipe can."""
    recipe: PolicyRecipe = make(settings)
    return (recipe.load_to_draw or recipe.load)(checkpoint)
