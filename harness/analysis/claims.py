"""Claims: a paper's findings as contrasts between arms, and the verdict on each.

A claim in an ablation file is `{text, better, than, categories}`: every arm of `better` scores above every
arm of `than` on average over `categories` (an arm or a list; `all` or a list). Each pair of arms is a
contrast. With `over: each`, each category is a contrast of its own. With `above: NUMBER`, the difference
must be more than that number, not only more than 0. `margin` is the largest difference that counts as
equal: of the study, or of the claim. With `equal: true` the claim is that every contrast is equal.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from harness.analysis.contrasts import Comparison, Contrast
from harness.analysis.sample_size import prompts_needed, seeds_needed
from harness.analysis.statistics import ALPHA, holm

REPRODUCED, CONTRADICTED, NOT_SUPPORTED = "reproduced", "contradicted", "not supported"
UNDECIDED, NOT_MEASURED = "undecided", "not measured"
VERDICTS = (REPRODUCED, CONTRADICTED, NOT_SUPPORTED, UNDECIDED, NOT_MEASURED)
HOLDS, REVERSED, EQUAL = "holds", "reversed", "equal"
OUTCOMES = (HOLDS, REVERSED, EQUAL, UNDECIDED, NOT_MEASURED)
# the outcomes in the order in which they decide a verdict, by whether equality is claimed
_DECIDING = {False: (REVERSED, UNDECIDED, EQUAL, HOLDS), True: (REVERSED, HOLDS, UNDECIDED, EQUAL)}


@dataclass(frozen=True)
class Margin:
    """The largest difference that counts as equal, in units of the score, and the reason for it."""

    value: float
    reason: str


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A finding to test. It holds if every contrast holds, or is equal where that is claimed."""

    id: str
    text: str
    contrasts: tuple[Contrast, ...]
    margin: Margin
    equal: bool = False

    @property
    def expected(self) -> str:
        """The outcome that every contrast of the claim must have."""
        return EQUAL if self.equal else HOLDS


@dataclass(frozen=True, kw_only=True)
class ContrastResult:
    """The result of one contrast.

    `comparison` is None where the contrast was not measured, and `reason` says why. `p_holm` is corrected
    within the family of all distinct contrasts of the study. `published` are the differences of the published
    table, by category, where it has them. `prompts_needed` (per category) and `seeds_needed` would decide an
    undecided contrast, each on its own; None where it cannot or is unknown.
    """

    contrast: Contrast
    outcome: str  # one of OUTCOMES
    margin: Margin
    comparison: Comparison | None = None
    p_holm: float | None = None
    published: Mapping[str, float] = field(default_factory=dict)
    prompts_needed: int | None = None
    seeds_needed: int | None = None
    reason: str | None = None

    @property
    def published_difference(self) -> float | None:
        """The paper's mean over the contrast's categories, None where it lacks one."""
        if set(self.published) != set(self.contrast.categories):
            return None
        return sum(self.published.values()) / len(self.published)

    def agreement(self) -> tuple[int, int]:
        """Return how many categories have the paper's direction, and how many were measured.

        The direction is that of the published difference, or the claimed one where there is none; seen from
        `above`, where the contrast claims more than a difference.
        """
        effects, above = self.comparison.by_category if self.comparison else {}, self.contrast.above
        agreeing = 0
        for category, effect in effects.items():
            paper = self.published.get(category) or above + 1.0
            agreeing += (effect - above) * (paper - above) > 0
        return agreeing, len(effects)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The verdict on a claim, with the results of its contrasts. `note` names its limits."""

    claim: Claim
    verdict: str
    note: str
    results: tuple[ContrastResult, ...]

    def count(self, outcome: str) -> int:
        return sum(result.outcome == outcome for result in self.results)

    @property
    def decisive(self) -> ContrastResult:
        """The result of least effect among those that decide the verdict."""
        for outcome in _DECIDING[self.claim.equal]:
            results = [result for result in self.results if result.outcome == outcome]
            if results:
                return min(results, key=lambda result: result.comparison.effect if result.comparison else 0.0)
        return self.results[0]


def read(study: Mapping[str, Any], categories: Sequence[str]) -> tuple[Claim, ...]:
    """Return the claims of a study (the `study` of plan.json). "all" stands for all of `categories`.

    Raises:
        ValueError: a claim has no margin, because an earlier version wrote the plan.
    """
    order = {category: number for number, category in enumerate(categories)}
    claims = []
    for name, entry in (study.get("claims") or {}).items():
        named = categories if entry["categories"] == "all" else dict.fromkeys(listed(entry["categories"]))
        claimed = tuple(sorted(named, key=lambda category: order.get(category, len(order))))
        contrasts: dict[Contrast, None] = {}
        for better, than in itertools.product(listed(entry["better"]), listed(entry["than"])):
            contrast = Contrast(better, than, claimed, float(entry.get("above") or 0))
            contrasts |= dict.fromkeys(contrast.parts() if entry.get("over") == "each" else [contrast])
        margin = entry.get("margin") or study.get("margin")
        if not margin:
            raise ValueError(
                f"the plan of this study has no margin for the claim {name!r}, because an earlier version"
                " wrote it: run the sweep's command again, which rewrites the plan; no result is lost"
            )
        claims.append(
            Claim(
                id=name,
                text=str(entry["text"]),
                contrasts=tuple(contrasts),
                margin=Margin(float(margin["value"]), str(margin["reason"])),
                equal=bool(entry.get("equal")),
            )
        )
    return tuple(claims)


def listed(value: Any) -> list[str]:
    """Return the names of a setting that is one name or a list of them."""
    return [value] if isinstance(value, str) else list(value)


def decide(
    claims: Sequence[Claim],
    measure: Callable[[Contrast], Comparison | str],
    *,
    published: Mapping[str, Mapping[str, float]],
    seeds: int,
) -> list[Verdict]:
    """Return the verdict on every claim.

    Args:
        claims: the claims; equal contrasts of several claims are one hypothesis of the family.
        measure: returns the comparison of a contrast, or the reason why it was not measured.
        published: arm -> category -> the published value.
        seeds: the number of seeds of the study; with one, every verdict is about this run only.
    """
    family: dict[Contrast, None] = {}
    for claim in claims:
        family |= dict.fromkeys(claim.contrasts)
    measured = {contrast: measure(contrast) for contrast in family}
    p_values = {contrast: found.p for contrast, found in measured.items() if isinstance(found, Comparison)}
    p_holm = dict(zip(p_values, holm(list(p_values.values())), strict=True))
    level = ALPHA / max(1, sum(p >= ALPHA for p in p_holm.values()))

    def result(contrast: Contrast, margin: Margin) -> ContrastResult:
        differences, found = _differences(published, contrast), measured[contrast]
        missing = ContrastResult(
            contrast=contrast, outcome=NOT_MEASURED, margin=margin, published=differences
        )
        if isinstance(found, str):
            return replace(missing, reason=found)
        decided = replace(
            missing,
            outcome=outcome(found, p_holm[contrast], margin.value),
            comparison=found,
            p_holm=p_holm[contrast],
        )
        if decided.outcome != UNDECIDED:
            return decided
        return replace(
            decided,
            prompts_needed=prompts_needed(found, margin=margin.value, level=level),
            seeds_needed=seeds_needed(found, margin=margin.value, level=level),
        )

    verdicts = []
    for claim in claims:
        results = tuple(result(contrast, claim.margin) for contrast in claim.contrasts)
        verdicts.append(_verdict(claim, results, seeds))
    return verdicts


def outcome(comparison: Comparison, p_holm: float, margin: float) -> str:
    """Return holds or reversed (a significant difference), equal (within the margin) or undecided.

    All as seen from `comparison.above`.
    """
    above = comparison.above
    if p_holm < ALPHA:
        return HOLDS if comparison.effect > above else REVERSED
    low, high = comparison.equivalence.low, comparison.equivalence.high
    if low is not None and high is not None and above - margin < low and high < above + margin:
        return EQUAL
    return UNDECIDED


def decision_level(verdicts: Sequence[Verdict]) -> float | None:
    """Return the two-sided level of the needed prompts and seeds: Holm's for the first undecided contrast.

    None where no contrast is undecided.
    """
    insignificant, undecided = set(), False
    for verdict in verdicts:
        for result in verdict.results:
            undecided = undecided or result.outcome == UNDECIDED
            if result.outcome in (UNDECIDED, EQUAL):
                insignificant.add(result.contrast)
    return ALPHA / len(insignificant) if undecided else None


def _differences(published: Mapping[str, Mapping[str, float]], contrast: Contrast) -> dict[str, float]:
    better, than = published.get(contrast.better, {}), published.get(contrast.than, {})
    common = [category for category in contrast.categories if category in better and category in than]
    return {category: better[category] - than[category] for category in common}


def _verdict(claim: Claim, results: tuple[ContrastResult, ...], seeds: int) -> Verdict:
    outcomes = [result.outcome for result in results]
    missing = outcomes.count(NOT_MEASURED)
    if missing == len(outcomes):
        return Verdict(claim=claim, verdict=NOT_MEASURED, note="", results=results)
    if REVERSED in outcomes or (claim.equal and HOLDS in outcomes):
        verdict = CONTRADICTED
    elif set(outcomes) == {claim.expected}:
        verdict = REPRODUCED
    elif set(outcomes) <= {HOLDS, EQUAL}:
        verdict = NOT_SUPPORTED
    else:
        verdict = UNDECIDED
    notes = []
    if verdict == NOT_SUPPORTED:
        notes.append(f"no difference above {claim.margin.value:g} in {_of(outcomes, EQUAL)}")
    if missing:
        notes.append(f"{_of(outcomes, NOT_MEASURED)} not measured")
    notes.append("this run only" if seeds == 1 else f"over {seeds} training runs")
    return Verdict(claim=claim, verdict=verdict, note=", ".join(notes), results=results)


def _of(outcomes: Sequence[str], outcome: str) -> str:
    noun = "contrast" if len(outcomes) == 1 else "contrasts"
    return f"{outcomes.count(outcome)} of {len(outcomes)} {noun}"
