"""The table of the claims, and the rules of their verdicts in words."""

from __future__ import annotations

from collections.abc import Sequence

from harness.analysis.claims import (
    CONTRADICTED,
    NOT_MEASURED,
    NOT_SUPPORTED,
    OUTCOMES,
    REPRODUCED,
    UNDECIDED,
    ContrastResult,
    Verdict,
)
from harness.report.cells import signed
from harness.report.table import Shown, Table, Value

_VERDICT_TONES = {REPRODUCED: "good", CONTRADICTED: "bad"}
_RULES = {
    REPRODUCED: "every contrast holds: a significant difference in the claimed direction (Holm p < 0.05).",
    CONTRADICTED: "a contrast is reversed: a significant difference in the other direction.",
    NOT_SUPPORTED: "every contrast is decided, none is reversed, and at least one is equal: no significant"
    " difference, and the 90% interval lies within the margin (two one-sided tests at 5%).",
    UNDECIDED: "else: some contrast is neither significantly different nor equal, or was not measured.",
    NOT_MEASURED: "every contrast lacks an arm or a category.",
}


def claims_table(verdicts: Sequence[Verdict]) -> Table:
    """Return every claim with its verdict and the number of contrasts per outcome."""
    rows: list[tuple[Shown, ...]] = []
    records: list[tuple[Value, ...]] = []
    for verdict in verdicts:
        claim = verdict.claim
        counts = (len(verdict.results), *map(verdict.count, OUTCOMES))
        tone = _VERDICT_TONES.get(verdict.verdict, "quiet")
        rows.append(
            (
                Shown(claim.text, tone="name"),
                Shown(_verdict_text(verdict), tone=tone),
                *[Shown(str(count)) for count in counts],
            )
        )
        effects = "; ".join(filter(None, map(_effects_by_category, verdict.results)))
        records.append((claim.id, claim.text, verdict.verdict, verdict.note, *counts, effects))
    outcome_fields = [outcome.replace(" ", "_") for outcome in OUTCOMES]
    return Table(
        name="claims",
        title="Claims and verdicts",
        note="The number of contrasts by outcome. `contrasts` has their numbers.",
        header=("claim", "verdict", "contrasts", *OUTCOMES),
        rows=tuple(rows),
        fields=("claim", "text", "verdict", "note", "contrasts", *outcome_fields, "effects_by_category"),
        records=tuple(records),
    )


def _verdict_text(verdict: Verdict) -> str:
    return f"{verdict.verdict} ({verdict.note})" if verdict.note else verdict.verdict


def _effects_by_category(result: ContrastResult) -> str:
    """Return `better > than category:effect ...`, empty without a comparison."""
    if result.comparison is None:
        return ""
    effects = [f"{name}:{effect:.6g}" for name, effect in result.comparison.by_category.items()]
    return f"{result.contrast.hypothesis} {' '.join(effects)}"


def verdict_rules(verdicts: Sequence[Verdict]) -> list[tuple[str, str]]:
    """Return every word for a verdict with its rule, then the margins with their reasons."""
    rules = list(_RULES.items())
    for margin in dict.fromkeys(verdict.claim.margin for verdict in verdicts):
        claims = [verdict.claim.id for verdict in verdicts if verdict.claim.margin == margin]
        whose = "" if len(claims) == len(verdicts) else f" ({', '.join(claims)})"
        rules.append((f"margin {margin.value:g}{whose}", f"declared before the run: {margin.reason}."))
    for above in dict.fromkeys(verdict.results[0].contrast.above for verdict in verdicts):
        claims = [verdict.claim.id for verdict in verdicts if verdict.results[0].contrast.above == above]
        if above:
            rule = (
                "these claims are about a difference above this number: it takes the place of 0 in the rules."
            )
            rules.append((f"above {above:g} ({', '.join(claims)})", rule))
    equal = [verdict.claim.id for verdict in verdicts if verdict.claim.equal]
    if equal:
        rule = (
            "these claims are reproduced if every contrast is equal, and contradicted if one is significant."
        )
        rules.append((f"equal ({', '.join(equal)})", rule))
    return rules


def decisive_text(result: ContrastResult) -> str:
    """Return the outcome and the numbers of a contrast in a line."""
    contrast, comparison = result.contrast, result.comparison
    text = f"{contrast.label()}: "
    if comparison is None or result.p_holm is None:
        text += f"{result.outcome} ({result.reason})"
    else:
        text += f"{result.outcome}, {signed(comparison.effect)}"
        if comparison.interval.low is not None and comparison.interval.high is not None:
            text += f" ({signed(comparison.interval.low)} to {signed(comparison.interval.high)})"
    if result.published_difference is not None:
        text += f"; the paper {signed(result.published_difference)}"
    return text
