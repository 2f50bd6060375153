"""What `harness.bench real_size` measures, and what it plans for a plugin that measures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.types import Stage


@dataclass(frozen=True, kw_only=True)
class Phase:
    """Work that ran in a process of its own: its time, its peak of memory, and the estimate of that peak."""

    name: str

    seconds: float
    """Of the work, without the start of the process and what it loads first."""

    peak_bytes: int
    """Of the whole process: resident memory, or on a GPU what torch allocated there."""

    estimate_bytes: float | None
    """What `harness.doctor` says; None: it says nothing of this work."""

    amount: float
    """Amount of work, in `unit`."""

    unit: str


@dataclass(frozen=True, kw_only=True)
class PlannedStage:
    """A stage of a cell, with the estimate of its memory where there is one."""

    stage: Stage

    resident_bytes: float | None
    """Held all the time."""

    phase_bytes: Mapping[str, float]
    """Phase of the stage -> bytes besides; one phase at a time."""

    @property
    def peak_bytes(self) -> float | None:
        return None if self.resident_bytes is None else self.resident_bytes + max(self.phase_bytes.values())


Plan = Callable[[Sequence[str]], Mapping[str, PlannedStage]]
"""The stages, by name, of the cell that the words `KEY=VALUE` describe. The user's own words win."""
