"""Claims: a paper's findings as comparisons between table cells, and the verdict on each.

A claim in an ablation file is `{text, better, than, categories}`: every arm of `better` scores above every
arm of `than` in every one of `categories` (an arm or a list; `all` or a list). Each single comparison is a
part.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.analysis.statistics import ALPHA, Comparison, holm, prompts_needed
from harness.names import nearest

REPRODUCED, CONTRADICTED, NOT_SUPPORTED = "reproduced", "contradicted", "not supported"
UNDECIDED, NOT_MEASURED = "undecided", "not measured"
VERDICTS = (REPRODUCED, CONTRADICTED, NOT_SUPPORTED, UNDECIDED, NOT_MEASURED)
HOLDS, REVERSED, EQUAL = "holds", "reversed", "equal"
_KEYS = ("text", "better", "than", "categories")


@dataclass(frozen=True)
class ClaimPart:
    """One comparison: `better` scores above `than` in `category`."""

    better: str
    than: str
    category: str


@dataclass(frozen=True)
class Margin:
    """The largest difference that counts as equal, in units of the score, and the reason for it."""

    value: float
    reason: str


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A finding to test. It holds if every part holds."""

    id: str
    text: str
    parts: tuple[ClaimPart, ...]
    margin: Margin = Margin(0.0, "differences are tested against 0 alone")


@dataclass(frozen=True, kw_only=True)
class PartResult:
    """The result of one part.

    `comparison` is None where the part was not measured, and `reason` says why. `p_holm` is corrected
    within the family of all parts of all claims. `published` is the difference in the published table,
    where it has one. `prompts_needed` is the number of prompts that would decide an undecided part with
    power 0.8.
    """

    part: ClaimPart
    outcome: str  # holds | reversed | undecided | not measured
    comparison: Comparison | None = None
    p_holm: float | None = None
    published: float | None = None
    prompts_needed: int | None = None
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The verdict on a claim, with the results of its parts. `note` names its limits."""

    claim: Claim
    verdict: str
    note: str
    results: tuple[PartResult, ...]

    def count(self, outcome: str) -> int:
        return sum(result.outcome == outcome for result in self.results)

    @property
    def decisive(self) -> PartResult:
        """The largest reversal, else the undecided part, else the holding part, of least effect."""
        for outcome in ("reversed", "undecided", "holds"):
            results = [result for result in self.results if result.outcome == outcome]
            if results:
                return min(results, key=lambda result: result.comparison.effect if result.comparison else 0.0)
        return self.results[0]


def read(study: Mapping[str, Any], categories: Sequence[str]) -> tuple[Claim, ...]:
    """Return the claims of a study (the `study` of plan.json). "all" stands for all of `categories`."""
    claims = []
    for name, entry in (study.get("claims") or {}).items():
        claimed = categories if entry["categories"] == "all" else _listed(entry["categories"])
        pairs = itertools.product(_listed(entry["better"]), _listed(entry["than"]), claimed)
        parts = tuple(ClaimPart(better, than, category) for better, than, category in pairs)
        claims.append(Claim(id=name, text=str(entry["text"]), parts=parts))
    return tuple(claims)


def check(study: Mapping[str, Any]) -> None:
    """Check the claims and the published table of a study.

    `study` is the `study` of the configuration with the `categories` of its benchmark. A claim may name
    arms of the published table that are not in this run: their parts are then not measured.

    Raises:
        ValueError: a claim names an unknown arm or category, or a row of the published table has a wrong
            length.
    """
    published = study.get("published") or {}
    arms = list(dict.fromkeys([*(study.get("arms") or {}), *(published.get("rows") or {})]))
    categories = list(dict.fromkeys([*(study.get("categories") or ()), *(published.get("columns") or ())]))
    for row, values in (published.get("rows") or {}).items():
        columns = published["columns"]
        if len(values) != len(columns):
            raise ValueError(
                f"study.published.rows.{row} has {len(values)} values, but there are {len(columns)} columns:"
                f" {', '.join(columns)}. Give one value per column (null where the paper has none)"
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
                f"{where} names the {noun} {name!r}, which this study does not have; known:"
                f" {', '.join(known)}{hint}"
            )


def _listed(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def decide(
    claims: Sequence[Claim],
    measure: Callable[[ClaimPart], Comparison | str],
    *,
    published: Mapping[str, Mapping[str, float]],
    seeds: int,
) -> list[Verdict]:
    """Return the verdict on every claim.

    Args:
        claims: the claims; equal parts of several claims are one hypothesis of the family.
        measure: returns the paired comparison of a part, or the reason why it was not measured.
        published: arm -> category -> the published value.
        seeds: the number of seeds of the study; with one, every verdict is about this run only.
    """
    family: dict[ClaimPart, None] = {}
    for claim in claims:
        family |= dict.fromkeys(claim.parts)
    measured = {part: measure(part) for part in family}
    tested = {part: comparison for part, comparison in measured.items() if isinstance(comparison, Comparison)}
    p_holm = dict(zip(tested, holm([comparison.p for comparison in tested.values()]), strict=True))
    open_parts = sum(p >= ALPHA for p in p_holm.values())

    def result(part: ClaimPart) -> PartResult:
        difference = _difference(published, part)
        if part not in tested:
            reason = str(measured[part])
            return PartResult(part=part, outcome=NOT_MEASURED, reason=reason, published=difference)
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
    """Return the two-sided level of `prompts_needed`: the one that Holm sets for the first undecided part."""
    undecided = set()
    for verdict in verdicts:
        undecided |= {result.part for result in verdict.results if result.outcome == UNDECIDED}
    return ALPHA / len(undecided) if undecided else None


def _difference(published: Mapping[str, Mapping[str, float]], part: ClaimPart) -> float | None:
    better = published.get(part.better, {}).get(part.category)
    than = published.get(part.than, {}).get(part.category)
    return None if better is None or than is None else better - than


def _outcome(effect: float, p_holm: float) -> str:
    if p_holm >= ALPHA:
        return UNDECIDED
    return "holds" if effect > 0 else "reversed"


def _verdict(claim: Claim, results: tuple[PartResult, ...], seeds: int) -> Verdict:
    outcomes = [result.outcome for result in results]
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
    return Verdict(claim=claim, verdict=verdict, note=", ".join(notes), results=results)
