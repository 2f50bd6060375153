"""What the report of a study needs to know of its interventions."""

from __future__ import annotations

from collections.abc import Sequence

from harness.analysis.measures import MEASURES
from harness.composition.components import make
from harness.types import Cell


def measures(cells: Sequence[Cell]) -> list[str]:
    """Return the measures of plans if any cell measures its plans, else none."""
    last = [cell.stages[-1].name for cell in cells]
    return list(MEASURES) if "plans" in last else []


def baselines(cells: Sequence[Cell]) -> dict[str, str]:
    """Return the name of every intervention of the cells, with the name of the one it is compared with."""
    found = {}
    for cell in cells:
        if settings := cell.config.get("intervention"):
            intervention = make(settings)
            found[intervention.name] = intervention.baseline
    return found
