"""The tables of the claims: one row per claim, and one row per part of a claim."""

from __future__ import annotations

from collections.abc import Sequence

from harness.analysis.claims import CONTRADICTED, REPRODUCED, PartResult, Verdict
from harness.analysis.study import Analysis
from harness.report.cells import COMPARISON_FIELDS, comparison_record, p_text, signed, span
from harness.report.legend import legend
from harness.report.table import Shown, Table, Value

PART_HEADER = (
    "claim",
    "comparison",
    "category",
    "outcome",
    "ours",
    "95% interval",
    "p (Holm)",
    "paper",
    "prompts to decide",
)
_OUTCOMES = ("holds", "reversed", "undecided", "not measured")
_VERDICT_TONES = {REPRODUCED: "good", CONTRADICTED: "bad"}
_OUTCOME_TONES = {"holds": "good", "reversed": "bad", "undecided": "quiet"}


def claims_table(verdicts: Sequence[Verdict]) -> Table:
    """Return every claim with its verdict and the number of parts per outcome."""
    rows: list[tuple[Shown, ...]] = []
    records: list[tuple[Value, ...]] = []
    for verdict in verdicts:
        claim = verdict.claim
        counts = (len(verdict.results), *map(verdict.count, _OUTCOMES))
        tone = _VERDICT_TONES.get(verdict.verdict, "quiet")
        rows.append(
            (
                Shown(claim.text, tone="name"),
                Shown(_verdict_text(verdict), tone=tone),
                *[Shown(str(count)) for count in counts],
            )
        )
        records.append((claim.id, claim.text, verdict.verdict, verdict.note, *counts))
    outcome_fields = [outcome.replace(" ", "_") for outcome in _OUTCOMES]
    return Table(
        name="claims",
        title="Claims and verdicts",
        note=(
            "Reproduced: every part is significant (Holm p < 0.05) as claimed. Contradicted: a part is"
            " significantly reversed."
        ),
        header=("claim", "verdict", "parts", *_OUTCOMES),
        rows=tuple(rows),
        fields=("claim", "text", "verdict", "note", "parts", *outcome_fields),
        records=tuple(records),
    )


def _verdict_text(verdict: Verdict) -> str:
    return f"{verdict.verdict} ({verdict.note})" if verdict.note else verdict.verdict


def parts_table(analysis: Analysis) -> Table:
    """Return every part of every claim with its numbers."""
    rows: list[tuple[Shown, ...]] = []
    records: list[tuple[Value, ...]] = []
    for verdict in analysis.verdicts:
        for result in verdict.results:
            part = result.part
            effects = " ".join(f"{effect:.6g}" for effect in analysis.seed_effects(part))
            rows.append((Shown(verdict.claim.id, tone="name"), *part_cells(analysis, result)))
            records.append(
                (
                    *(verdict.claim.id, part.better, part.than, part.category, result.outcome),
                    *comparison_record(result.comparison or result.reason),
                    *(result.p_holm, result.published, result.prompts_needed, effects),
                )
            )
    return Table(
        name="claim_parts",
        title="The parts of the claims",
        note=(
            "Ours and the paper's difference of the same two table cells; p corrected by Holm over all parts."
        ),
        header=PART_HEADER,
        rows=tuple(rows),
        fields=(
            *("claim", "better", "than", "category", "outcome", *COMPARISON_FIELDS),
            *("p_holm", "published_difference", "prompts_needed", "effect_by_seed"),
        ),
        records=tuple(records),
        legend=legend(analysis),
    )


def part_cells(analysis: Analysis, result: PartResult) -> tuple[Shown, ...]:
    """Return the cells of a part under `PART_HEADER`, without the claim's name."""
    part, comparison = result.part, result.comparison
    tone = _OUTCOME_TONES.get(result.outcome, "missing")
    return (
        Shown(f"{part.better} > {part.than}", tone="name"),
        Shown(analysis.heading(part.category)),
        Shown(result.outcome if comparison else f"{result.outcome}: {result.reason}", tone=tone),
        Shown(signed(comparison.effect) if comparison else "–", tone=tone if comparison else ""),
        Shown(span(comparison.interval, sign=True) if comparison else "–"),
        Shown("–" if result.p_holm is None else p_text(result.p_holm)),
        Shown("–" if result.published is None else signed(result.published, 4)),
        Shown("–" if result.prompts_needed is None else f"{result.prompts_needed:,}"),
    )
