"""What a report needs to know of a study, kept in its plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.analysis import claim_settings
from harness.composition.arguments import UsageError
from harness.composition.components import make
from harness.names import unknown
from harness.prompts import CAPTIONS
from harness.study import experts, interventions
from harness.types import Cell


def study_facts(study: Mapping[str, Any], arms: Mapping[str, Any], cells: Sequence[Cell]) -> dict[str, Any]:
    """The entries of an ablation without the overrides of arms, the categories of all prompts, the measures
    of plans, the baselines of interventions, and the experts of the rewards.

    Args:
        study: its resolved settings.
        arms: its arms, by name.
        cells: those of the arms of this run.

    Raises:
        UsageError: it names an arm or category that does not exist.
    """
    facts = {name: value for name, value in study.items() if name not in ("arms", "arm")}
    for role in ("baseline", "full"):
        if facts.get(role) is not None and facts[role] not in arms:
            raise UsageError(unknown(f"arm as study.{role}", str(facts[role]), arms))
    categories: dict[str, None] = {}
    for cell in cells:
        categories |= dict.fromkeys(_categories(cell))
    facts["categories"] = list(categories)
    facts["measures"], facts["baselines"] = interventions.measures(cells), interventions.baselines(cells)
    facts["experts"] = experts.labels(cells)
    try:
        claim_settings.check({**facts, "arms": arms})
    except ValueError as error:
        raise UsageError(f"in study {study['name']}: {error}") from error
    return facts


def _categories(cell: Cell) -> list[str]:
    """The categories of the prompts that a cell is evaluated on, in the benchmark's order."""
    evaluation = cell.config["evaluation"]
    known = [*make(cell.config["benchmarks"]).categories]
    if evaluation["captions"] is not None:
        known.append(CAPTIONS)
    chosen = evaluation["categories"]
    return known if chosen is None else [name for name in known if name in chosen]
