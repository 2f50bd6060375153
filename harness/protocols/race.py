"""What `harness.bench` compares: the same work, done by several systems."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Race:
    """Work that several systems can do, compared in one run of `harness.bench`."""

    work: str
    """The work, equal for all races that belong together."""

    setting: str
    """What differs between the races of one work."""

    amount: int
    """Amount of work, in `unit`."""

    unit: str
    """Samples or images."""

    counts: Mapping[str, int]
    """Phase -> how many of `count_unit` it makes."""

    count_unit: str
    """Tokens or answers."""

    systems: Mapping[str, Callable[[], Mapping[str, float]]]
    """Name -> function that does the work and returns the seconds per phase; the first is the baseline."""

    floor_s: Callable[[], float] | None = None
    """Least time in seconds that the device allows, where it is known."""
