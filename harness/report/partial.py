"""Reports of studies with cells that are still to come: which arms are in, and what waits for the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from harness.analysis import claims
from harness.analysis.results import CellResult, PairResult, StudyResult
from harness.analysis.study import DONE, Analysis
from harness.report.table import Table

ENDED = (DONE, "failed", "lost")  # states of cells that nothing will change
ALL_ARMS = "its arms are in, but the correction for several contrasts requires all arms of the study"


@dataclass(frozen=True, kw_only=True)
class Partial:
    """What a partial report says about itself.

    `claims` holds the text of every claim, and why it is not yet decided.
    """

    count: str
    arms: str
    written: str
    claims: Mapping[str, str]

    @property
    def notice(self) -> str:
        """The sentences at the top of the report, after the words "Partial report"."""
        return f"written {self.written}: {self.count} in. {self.arms}"

    @property
    def mark(self) -> str:
        """The words before a caption."""
        return f"Partial, {self.count}."

    def marked(self, table: Table) -> Table:
        """The table, with the mark in its title and below its written forms."""
        legend = f"{self.mark} {table.legend}".rstrip()
        return replace(table, title=f"{table.title} (partial, {self.count})", legend=legend)

    def record(self) -> dict[str, Any]:
        """The entry in provenance.json."""
        return {"written": self.written, "arms": self.count, "states": self.arms}


def partial_of(study: StudyResult) -> Partial | None:
    """Return how far a study is; None where no cell is still to come."""
    if all(cell.state in ENDED for cell in study.planned):
        return None
    cells_by_arm: dict[str, list[CellResult | PairResult]] = {}
    for cell in study.planned:
        cells_by_arm.setdefault(cell.arm, []).append(cell)
    groups: dict[str, list[str]] = {"In": [], "Still to come": [], "Without result": []}
    for arm, cells in cells_by_arm.items():
        measured = [cell for cell in cells if cell.measured]
        states = [cell.state for cell in cells if not cell.measured]
        seeds = f"{len(measured)} of {len(cells)} seeds, " if measured else ""
        named = f"{arm} ({seeds}{', '.join(dict.fromkeys(states))})"
        if not states:
            groups["In"].append(arm)
        elif set(states) <= set(ENDED):
            groups["Without result"].append(named)
        else:
            groups["Still to come"].append(named)
    whole, planned = len(groups["In"]), len(cells_by_arm)
    return Partial(
        count=f"{whole} of {planned} arm{'s' if planned > 1 else ''}",
        arms=" ".join(f"{group}: {', '.join(arms)}." for group, arms in groups.items() if arms),
        written=f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC",
        claims=_undecided(Analysis(study)),
    )


def without_claims(study: StudyResult) -> StudyResult:
    """Return the study without its claims: none is decided before all arms are in."""
    return replace(study, study={name: value for name, value in study.study.items() if name != "claims"})


def _undecided(analysis: Analysis) -> dict[str, str]:
    """Return the text of every claim, and why it is not yet decided."""
    reasons = {}
    for claim in claims.read(analysis.study.study, analysis.categories):
        missing: dict[str, None] = {}
        for contrast in claim.contrasts:
            arms = [arm for arm in (contrast.better, contrast.than) if arm in analysis.arms]
            missing |= {f"{arm} {analysis.state(arm)}": None for arm in arms if analysis.state(arm) != DONE}
            missing |= dict.fromkeys(filter(None, [analysis.why_missing(contrast)]))
        reasons[claim.text] = ", ".join(missing) or ALL_ARMS
    return reasons
