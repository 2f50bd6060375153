"""The role of reward components."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from harness.types import Sample, Score


class Component(Protocol):
    """A reward component.

    It may have `external`: paths of files that a user gives it, such as a rubric. They count by content (see
    `Stage`). Where it has `needs_certainty = True`, the samples that it receives have `Sample.certainty`.
    """

    name: str
    """Its name in a total."""

    scope: Literal["chain", "image", "both"]
    """What its score depends on: the chain alone, the image (and the prompt), or how the two agree."""

    def __call__(self, samples: Sequence[Sample]) -> list[Score]:
        """One score per sample, in order."""
        ...
