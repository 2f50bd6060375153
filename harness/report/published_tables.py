"""The tables that compare our scores with the paper's."""

from __future__ import annotations

from scipy.stats import spearmanr

from harness.analysis.published import agreement
from harness.analysis.study import Analysis
from harness.report.cells import arm_cell, missing_cell, signed, span
from harness.report.legend import legend
from harness.report.table import Shown, Table, Value


def published_tables(analysis: Analysis) -> list[Table]:
    """Return our scores beside the paper's, and their rank correlation. Empty without common arms."""
    categories = [category for category in analysis.columns if _is_published(analysis, category)]
    arms = [arm for arm in analysis.arms if arm in analysis.published]
    if not categories or not arms:
        return []
    return [_scores_table(analysis, arms, categories), _correlation_table(analysis, categories)]


def rank_correlation(analysis: Analysis, category: str) -> tuple[float | None, int]:
    """Return Spearman's rho between our and the published scores, and the number of arms that have both."""
    ours, theirs = [], []
    for arm in analysis.arms:
        score, published = _our_score(analysis, arm, category), _published_score(analysis, arm, category)
        if score is not None and published is not None:
            ours.append(score)
            theirs.append(published)
    if len(ours) < 3 or len(set(ours)) == 1 or len(set(theirs)) == 1:
        return None, len(ours)
    return float(spearmanr(ours, theirs).statistic), len(ours)


def _scores_table(analysis: Analysis, arms: list[str], categories: list[str]) -> Table:
    rows, records = [], []
    for arm in arms:
        cells = [arm_cell(analysis, arm)]
        for category in categories:
            ours, theirs = _our_score(analysis, arm, category), _published_score(analysis, arm, category)
            our_gain = _gain(ours, _our_score(analysis, analysis.baseline, category))
            their_gain = _gain(theirs, _published_score(analysis, analysis.baseline, category))
            cells.append(_score_cell(analysis, arm, category))
            records.append((arm, category, ours, theirs, our_gain, their_gain))
        rows.append(tuple(cells))
    return Table(
        name="published",
        title="Ours / the paper's",
        note="The two worlds differ, so compare order and sign, not size." + _split_note(analysis),
        header=("arm", *map(analysis.heading, categories)),
        rows=tuple(rows),
        fields=("arm", "category", "ours", "published", "ours_minus_baseline", "published_minus_baseline"),
        records=tuple(records),
        legend=legend(analysis, categories),
    )


def paper_order(analysis: Analysis) -> str:
    """Return the agreement with the paper in a sentence; empty where too few arms have all numbers."""
    whole = agreement(analysis)
    if whole is None:
        return ""
    return (
        f"Agreement with the paper: Spearman's rho of the mean scores of {whole.arms} arms is"
        f" {signed(whole.rho, 2)} ({span(whole.interval, sign=True, digits=2)}); {whole.alike} of"
        f" {whole.pairs} pairs of arms are ordered as in the paper."
    )


def _correlation_table(analysis: Analysis, categories: list[str]) -> Table:
    whole = agreement(analysis)
    cells = [Shown("Spearman's rho", tone="name")]
    records: list[tuple[Value, ...]] = []
    if whole is None:
        cells += [Shown("–"), Shown("–")]
        records.append(("mean", *[None] * 6))
    else:
        interval = whole.interval
        cells.append(Shown(f"{signed(whole.rho)} ({span(interval, sign=True)})"))
        cells.append(Shown(f"{whole.alike} of {whole.pairs}"))
        records.append(("mean", whole.rho, interval.low, interval.high, whole.arms, whole.alike, whole.pairs))
    for category in categories:
        rho, arms = rank_correlation(analysis, category)
        cells.append(Shown("–" if rho is None else signed(rho)))
        records.append((category, rho, None, None, arms, None, None))
    return Table(
        name="rank_correlation",
        title="Do the arms come in the paper's order?",
        note=(
            "Spearman's rho of the arms' scores, ours against the paper's: 1 the same order, 0 unrelated,"
            " −1 reversed. First of their means over the published categories, with a 95% bootstrap interval"
            " (prompts resampled within categories, jointly for all arms), and how many pairs of arms are"
            " ordered alike."
        ),
        header=("", "mean over categories", "pairs ordered alike", *map(analysis.heading, categories)),
        rows=(tuple(cells),),
        fields=("category", "spearman", "low", "high", "arms", "pairs_alike", "pairs"),
        records=tuple(records),
        legend=legend(analysis, categories),
    )


def _is_published(analysis: Analysis, category: str) -> bool:
    return any(category in scores for scores in analysis.published.values())


def _our_score(analysis: Analysis, arm: str | None, category: str) -> float | None:
    return None if arm not in analysis.arms else analysis.estimate(arm, category).mean


def _published_score(analysis: Analysis, arm: str | None, category: str) -> float | None:
    return analysis.published.get(arm or "", {}).get(category)


def _gain(score: float | None, reference: float | None) -> float | None:
    return None if score is None or reference is None else score - reference


def _score_cell(analysis: Analysis, arm: str, category: str) -> Shown:
    ours, theirs = _our_score(analysis, arm, category), _published_score(analysis, arm, category)
    left = missing_cell(analysis, arm, category).text if ours is None else f"{ours:.3f}"
    right = "–" if theirs is None else f"{theirs:.4f}"
    return Shown(f"{left} / {right}", tone="missing" if ours is None else "")


def _split_note(analysis: Analysis) -> str:
    """Return a sentence on the categories that the paper has and that our metrics split."""
    split = [category for category in analysis.study.split if _is_published(analysis, category)]
    return f" Not here: {', '.join(split)}, of which our scores are of unequal metrics." if split else ""
