"""The role of reward components."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from harness.types import Sample, Score


class Component(Protocol):
    """A reward component.

    It may have `external`: paths of files that a user gives it, such as a rubric. They count by content (see
    `Stage`).
    """

    name: str
    """Its name in a total."""

    def __call__(self, samples: Sequence[Sample]) -> list[Score]:
        """One score per sample, in order."""
        ...
