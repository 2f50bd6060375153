"""The head of a report in words: what the study found, and which experts gave its rewards."""

from __future__ import annotations

from collections.abc import Sequence

from harness.analysis.claims import (
    CONTRADICTED,
    EQUAL,
    HOLDS,
    NOT_SUPPORTED,
    REPRODUCED,
    REVERSED,
    VERDICTS,
    Verdict,
)
from harness.analysis.contrasts import Contrast
from harness.analysis.study import Analysis
from harness.report.agreement_tables import agreement_answer
from harness.report.cells import signed, span

SHOWN = 3  # claims of one verdict that the sentence names
EXPERTS_SHOWN = 6
_DECIDING = {REPRODUCED: HOLDS, CONTRADICTED: REVERSED, NOT_SUPPORTED: EQUAL}  # verdict -> outcome


def answer(analysis: Analysis, *, so_far: bool = False) -> str:
    """Return the outcome of the study in a sentence, and in others what the numbers say where no claim is
    decided, and how many cells are missing. `so_far`: others are still to come, which the page says itself.
    """
    runs = len(analysis.study.seeds)
    scope = "So far" if so_far else "In this run" if runs == 1 else f"Over {runs} training runs"
    if analysis.verdicts:
        found = _verdicts(analysis.verdicts)
    else:
        found = agreement_answer(analysis) or _best_arm(analysis)
    cells = analysis.study.planned
    missing = sum(not cell.measured for cell in cells)
    sentences = [f"{scope}: {found}"]
    if analysis.verdicts and not any(verdict.verdict in _DECIDING for verdict in analysis.verdicts):
        sentences.append(_undecided(analysis))
    if missing and not so_far:
        sentences.append(f"{missing} of {len(cells)} cells missing")
    return ". ".join(filter(None, sentences)) + "."


def rewarding_experts(analysis: Analysis) -> str:
    """Return which experts gave the rewards, as the plan names them; empty where it names none."""
    labels = analysis.study.study.get("experts") or []
    return f"Rewards by: {listing(labels, EXPERTS_SHOWN)}." if labels else ""


def listing(items: Sequence[str], most: int) -> str:
    """Return the first items in a list, with the number of those beyond `most`."""
    shown, rest = items[:most], len(items) - most
    return ", ".join(shown) + (f" and {rest} more" if rest > 0 else "")


def _verdicts(verdicts: Sequence[Verdict]) -> str:
    """Return the decided claims by verdict in their own words, and the number of the others."""
    groups: dict[str, list[str]] = {}
    for name in VERDICTS:
        for verdict in verdicts:
            if verdict.verdict == name:
                groups.setdefault(_heading(verdict), []).append(_claim(verdict))
    parts = []
    for heading, claims in groups.items():
        decided = heading not in VERDICTS or heading in _DECIDING
        parts.append(
            f"{heading}: {listing(claims, SHOWN) if decided else f'{len(claims)} of {len(verdicts)}'}"
        )
    return "; ".join(parts)


def _heading(verdict: Verdict) -> str:
    if verdict.verdict == NOT_SUPPORTED:
        return f"no difference above {verdict.claim.margin.value:g}"
    return verdict.verdict


def _claim(verdict: Verdict) -> str:
    """Return the claim with the effect that decides it, or the least and greatest of several."""
    text, outcome = verdict.claim.text.rstrip(" ."), _DECIDING.get(verdict.verdict)
    effects = []
    for result in verdict.results:
        if result.comparison is not None and result.outcome == outcome:
            effects.append(result.comparison.effect)
    if not effects:
        return text
    shown = dict.fromkeys([signed(min(effects)), signed(max(effects))])
    return f"{text} ({' to '.join(shown)})"


def _undecided(analysis: Analysis) -> str:
    """Return the best arm, and the gain of full over the baseline where the study names and measured both."""
    best = _best_arm(analysis)
    parts = [best[0].upper() + best[1:]]
    if analysis.full and analysis.baseline:
        found = analysis.contrast(Contrast(analysis.full, analysis.baseline, tuple(analysis.categories)))
        if not isinstance(found, str):
            interval = span(found.interval, sign=True)
            parts.append(f"{analysis.full} minus {analysis.baseline} is {signed(found.effect)} ({interval})")
    return "; ".join(parts)


def _best_arm(analysis: Analysis) -> str:
    """Return the arm with the highest mean over the categories, for a study that makes no claims."""
    means = {arm: mean for arm in analysis.arms if (mean := analysis.macro(arm).mean) is not None}
    if not means:
        return "no arm has a score in every category"
    best = max(means, key=lambda arm: means[arm])
    interval = span(analysis.macro(best).interval)
    if len(means) == 1:
        return f"the mean of {best} over the categories is {means[best]:.3f} ({interval})"
    return f"the highest mean over the categories is that of {best}, {means[best]:.3f} ({interval})"
