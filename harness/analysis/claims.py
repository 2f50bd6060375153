"""Claims: a paper's findings as comparisons between table cells, and the verdict on each.

A claim in an ablation file is `{text, better, than, categories}`: every arm of `better` scores above every arm of
`than` on every one of `categories` (an arm or a list; `all` or a list). Each single comparison is a part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.analysis.statistics import ALPHA, Comparison, holm, prompts_needed
from harness.names import nearest

REPRODUCED, CONTRADICTED, UNDECIDED, NOT_MEASURED = "reproduced", "contradicted", "undecided", "not measured"
VERDICTS = (REPRODUCED, CONTRADICTED, UNDECIDED, NOT_MEASURED)
_KEYS = ("text", "better", "than", "categories")


@dataclass(frozen=True)
class Part:
    """One comparison: `better` scores above `than` on `category`."""

    better: str
    than: str
    category: str


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A finding to be tested; it holds if every part does."""

    id: str
    text: str
    parts: tuple[Part, ...]


@dataclass(frozen=True, kw_only=True)
class PartResult:
    """What the cells say to one part.

    `comparison` is None where it was not measured and `reason` says why; `p_holm` is corrected within the
    family of all parts of all claims; `published` is the difference in the published table, where it has one;
    `prompts_needed` is what would decide an undecided part at `level` with power 0.8.
    """

    part: Part
    outcome: str  # holds | reversed | undecided | not measured
    comparison: Comparison | None = None
    p_holm: float | None = None
    published: float | None = None
    prompts_needed: int | None = None
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The verdict on a claim with the parts behind it; `note` says what limits it."""

    claim: Claim
    verdict: str
    note: str
    parts: tuple[PartResult, ...]

    def count(self, outcome: str) -> int:
        return sum(part.outcome == outcome for part in self.parts)

    @property
    def decisive(self) -> PartResult:
        """The part that the verdict hangs on: the largest reversal, else the undecided one, else the holding one, of least effect."""
        for outcome in ("reversed", "undecided", "holds"):
            found = [part for part in self.parts if part.outcome == outcome]
            if found:
                return min(found, key=lambda part: part.comparison.effect if part.comparison else 0.0)
        return self.parts[0]


def read(study: Mapping[str, Any], categories: Sequence[str]) -> tuple[Claim, ...]:
    """The claims of a study (the `study` of plan.json); `categories: all` means all of `categories`."""
    return tuple(
        Claim(
            id=name,
            text=str(entry["text"]),
            parts=tuple(
                Part(better, than, category)
                for better in _listed(entry["better"])
                for than in _listed(entry["than"])
                for category in (categories if entry["categories"] == "all" else _listed(entry["categories"]))
            ),
        )
        for name, entry in (study.get("claims") or {}).items()
    )


def check(study: Mapping[str, Any]) -> None:
    """Raises ValueError for a claim that names an arm or category the study does not have, or a ragged published table.

    `study` is the `study` of the configuration with the `categories` of its benchmark. Arms left out of this
    run but present in the published table may be named: their parts are then not measured.
    """
    published = study.get("published") or {}
    arms = list(dict.fromkeys([*(study.get("arms") or {}), *(published.get("rows") or {})]))
    categories = list(dict.fromkeys([*(study.get("categories") or ()), *(published.get("columns") or ())]))
    for row, values in (published.get("rows") or {}).items():
        if len(values) != len(published["columns"]):
            raise ValueError(
                f"study.published.rows.{row} has {len(values)} values for the {len(published['columns'])} columns "
                f"{', '.join(published['columns'])}: give one per column (null where the paper has none)"
            )
    for name, claim in (study.get("claims") or {}).items():
        _check_claim(f"study.claims.{name}", claim, arms, categories)


def _check_claim(where: str, claim: Any, arms: Sequence[str], categories: Sequence[str]) -> None:
    if not isinstance(claim, Mapping) or set(claim) != set(_KEYS):
        given = ", ".join(map(str, claim)) if isinstance(claim, Mapping) else repr(claim)
        raise ValueError(f"{where} has {given}: a claim has exactly {', '.join(_KEYS)}")
    _known("arm", _listed(claim["better"]), arms, where=f"{where}.better")
    _known("arm", _listed(claim["than"]), arms, where=f"{where}.than")
    if both := set(_listed(claim["better"])) & set(_listed(claim["than"])):
        raise ValueError(
            f"{where} compares {', '.join(sorted(both))} with itself: name it in better or in than"
        )
    if claim["categories"] != "all":
        _known("category", _listed(claim["categories"]), categories, where=f"{where}.categories")


def _known(noun: str, names: Iterable[str], known: Sequence[str], *, where: str) -> None:
    names = list(names)
    if not names:
        raise ValueError(f"{where} is empty: name at least one {noun} of {', '.join(known)}")
    for name in names:
        if name not in known:
            near = nearest(str(name), known, cutoff=0.6)
            hint = f" (nearest: {near})" if near else ""
            raise ValueError(
                f"{where} names the {noun} {name!r}, which this study does not have; known: {', '.join(known)}{hint}"
            )


def _listed(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def judge(
    claims: Sequence[Claim],
    measure: Callable[[Part], Comparison | str],
    *,
    published: Mapping[str, Mapping[str, float]],
    seeds: int,
) -> list[Verdict]:
    """The verdict on every claim.

    Args:
        claims: What is claimed; equal parts of several claims are one hypothesis of the family.
        measure: The paired comparison of a part, or the reason why it was not measured.
        published: arm -> category -> the published value.
        seeds: How many seeds the study runs; one makes every verdict a statement on this run only.
    """
    family = list(dict.fromkeys(part for claim in claims for part in claim.parts))
    measured = {part: measure(part) for part in family}
    tested = {part: comparison for part, comparison in measured.items() if isinstance(comparison, Comparison)}
    p_holm = dict(zip(tested, holm([comparison.p for comparison in tested.values()]), strict=True))
    open_parts = sum(p >= ALPHA for p in p_holm.values())

    def result(part: Part) -> PartResult:
        difference = _difference(published, part)
        if part not in tested:
            return PartResult(
                part=part, outcome=NOT_MEASURED, reason=str(measured[part]), published=difference
            )
        outcome = _outcome(tested[part].effect, p_holm[part])
        needed = prompts_needed(tested[part], level=ALPHA / open_parts) if outcome == UNDECIDED else None
        return PartResult(
            part=part,
            outcome=outcome,
            comparison=tested[part],
            p_holm=p_holm[part],
            published=difference,
            prompts_needed=needed,
        )

    results = {part: result(part) for part in family}
    return [_verdict(claim, tuple(results[part] for part in claim.parts), seeds) for claim in claims]


def decision_level(verdicts: Sequence[Verdict]) -> float | None:
    """The two-sided level that `prompts_needed` is stated for: what Holm asks of the first part that is still undecided."""
    undecided = {part.part for verdict in verdicts for part in verdict.parts if part.outcome == UNDECIDED}
    return ALPHA / len(undecided) if undecided else None


def _difference(published: Mapping[str, Mapping[str, float]], part: Part) -> float | None:
    better = published.get(part.better, {}).get(part.category)
    than = published.get(part.than, {}).get(part.category)
    return None if better is None or than is None else better - than


def _outcome(effect: float, p_holm: float) -> str:
    if p_holm >= ALPHA:
        return UNDECIDED
    return "holds" if effect > 0 else "reversed"


def _verdict(claim: Claim, parts: tuple[PartResult, ...], seeds: int) -> Verdict:
    outcomes = [part.outcome for part in parts]
    missing = outcomes.count(NOT_MEASURED)
    if "reversed" in outcomes:
        verdict = CONTRADICTED
    elif missing == len(outcomes):
        verdict = NOT_MEASURED
    elif set(outcomes) == {"holds"}:
        verdict = REPRODUCED
    else:
        verdict = UNDECIDED
    notes = ["this run only"] if seeds == 1 and verdict != NOT_MEASURED else []
    if missing and verdict != NOT_MEASURED:
        notes.append(f"{missing} of {len(outcomes)} parts not measured")
    return Verdict(claim=claim, verdict=verdict, note=", ".join(notes), parts=parts)
