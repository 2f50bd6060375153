"""The factors of a study: the gain of every arm at every level, and its distance to the full method there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from harness.analysis.contrasts import Comparison, Contrast
from harness.analysis.study import Analysis


@dataclass(frozen=True, kw_only=True)
class FactorPoint:
    """An arm at a level of a factor; `cell_arm` is its name in the study, `at` its place on the axis.

    `gain` is the difference to the baseline and `lead` that of the full method at this level to this arm,
    or the reason why there is none. `lead` is None for the full method itself, and without one.
    """

    arm: str
    level: str
    at: float
    cell_arm: str
    gain: Comparison | str
    lead: Comparison | str | None


@dataclass(frozen=True, kw_only=True)
class Factor:
    """A factor of the study. `full` is the arm whose lead is shown; no level changes the arms `fixed`."""

    name: str
    label: str
    full: str | None
    fixed: tuple[str, ...]
    points: tuple[FactorPoint, ...]


@lru_cache(maxsize=1)  # tables and figures show the same numbers
def factors_of(analysis: Analysis) -> list[Factor]:
    """Return the factors of which this run has an arm, with their levels by falling place."""
    written = analysis.study.study.get("factors") or {}
    crossed: set[str] = set()
    for entry in written.values():
        for cells in entry["arms"].values():
            crossed |= set(cells.values())
    plain = [arm for arm in analysis.arms if arm not in crossed and arm != analysis.baseline]
    factors = [_factor(analysis, name, entry, plain) for name, entry in written.items()]
    return [factor for factor in factors if any(point.arm not in factor.fixed for point in factor.points)]


def _factor(analysis: Analysis, name: str, entry: Mapping[str, Any], plain: Sequence[str]) -> Factor:
    arms: Mapping[str, Mapping[str, str]] = entry["arms"]
    fixed = tuple(arm for arm in plain if arm not in arms)
    full = (analysis.full or "").partition("@")[0]
    points = []
    for level, at in sorted(entry["levels"].items(), key=lambda item: -item[1]):
        cells = {arm: by_level[level] for arm, by_level in arms.items()} | {arm: arm for arm in fixed}
        for arm, cell_arm in cells.items():
            if cell_arm in analysis.arms:
                gain = difference(analysis, cell_arm, analysis.baseline or "a baseline")
                is_led = full in arms and arm != full
                lead = difference(analysis, cells[full], cell_arm) if is_led else None
                points.append(
                    FactorPoint(arm=arm, level=level, at=at, cell_arm=cell_arm, gain=gain, lead=lead)
                )
    return Factor(
        name=name,
        label=entry["label"],
        full=full if full in arms else None,
        fixed=fixed,
        points=tuple(points),
    )


def difference(analysis: Analysis, better: str, than: str) -> Comparison | str:
    """Return the difference of two arms over all columns, or the reason why there is none."""
    return analysis.contrast(Contrast(better, than, analysis.categories))
