"""The tables of a report about scores: what is shown and what is kept. They hold no time and no date."""

from __future__ import annotations

from collections.abc import Sequence

from scipy.stats import spearmanr

from harness.analysis.analysis import Analysis
from harness.analysis.claims import CONTRADICTED, REPRODUCED, PartResult, Verdict
from harness.analysis.statistics import ALPHA, Comparison, Estimate, Interval
from harness.report.legend import legend, metrics_table
from harness.report.table import Shown, Table, Value

SPLITS: dict[
    str, dict[object, str]
] = {  # a prompt's fact -> its values and what prompts with them are called
    "unseen": {False: "seen", True: "unseen"},
    "phrasing": {"direct": "direct", "inverse": "inverse"},
}


def score_tables(analysis: Analysis) -> list[Table]:
    """Every table about scores, differences and claims."""
    tables = [main_table(analysis), scores_table(analysis)]
    for role, arm in (("baseline", analysis.baseline), ("full", analysis.full)):
        if arm in analysis.arms:
            tables.append(differences_table(analysis, role, arm))
    tables += [claims_table(analysis.verdicts), parts_table(analysis)] if analysis.verdicts else []
    tables += [table for fact in SPLITS if (table := split_table(analysis, fact)) is not None]
    tables += published_tables(analysis)
    tables += [table for table in [metrics_table(analysis)] if table is not None]
    return tables


def signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−")


def span(interval: Interval, *, sign: bool = False) -> str:
    if interval.low is None or interval.high is None:
        return "no interval"
    return (
        f"{signed(interval.low)} to {signed(interval.high)}"
        if sign
        else f"{interval.low:.3f} to {interval.high:.3f}"
    )


def p_text(p: float) -> str:
    return f"{p:.4f}" if p >= 0.0001 else "<0.0001"


def main_table(analysis: Analysis) -> Table:
    """One row per arm, one column per category: `table.csv`."""
    columns = [_column(analysis, category) for category in analysis.categories]
    records = [
        [_mean_or_state(analysis, arm, category) for category in analysis.categories] for arm in analysis.arms
    ]
    metrics = legend(analysis)
    scale = "" if metrics else ", 0 to 1"  # metrics that are stated have scales of their own
    return Table(
        name="table",
        title="Score per category",
        note=f"Mean over prompts{scale}; the best of each column is marked."
        + _seeds_note(analysis)
        + _blind_note(analysis),
        header=("arm", *map(analysis.heading, analysis.categories)),
        rows=tuple(
            (_arm(analysis, arm), *[column[row] for column in columns])
            for row, arm in enumerate(analysis.arms)
        ),
        fields=("arm", *analysis.categories),
        records=tuple((arm, *record) for arm, record in zip(analysis.arms, records, strict=True)),
        legend=metrics,
    )


def _column(analysis: Analysis, category: str) -> list[Shown]:
    means = [analysis.estimate(arm, category).mean for arm in analysis.arms]
    known = [mean for mean in means if mean is not None]
    low, high = (min(known), max(known)) if known else (0.0, 0.0)
    column = []
    for arm, mean in zip(analysis.arms, means, strict=True):
        if mean is None:
            column.append(_missing(analysis, arm, category))
        else:
            heat = (mean - low) / (high - low) if high > low else None
            column.append(Shown(f"{mean:.3f}", strong=mean == high, heat=heat))
    return column


def _mean_or_state(analysis: Analysis, arm: str, category: str) -> Value:
    mean = analysis.estimate(arm, category).mean
    return _missing(analysis, arm, category).text if mean is None else mean


def _missing(analysis: Analysis, arm: str, category: str) -> Shown:
    return Shown(analysis.absence(arm, category), tone="missing")


def _arm(analysis: Analysis, arm: str) -> Shown:
    """The arm's name, with the share of seeds behind its numbers where that is not all."""
    measured, planned = len(analysis.measured_cells(arm)), len(analysis.study.cells_of(arm))
    partial = 0 < measured < planned
    return Shown(
        f"{arm} ({measured} of {planned} seeds; {analysis.state(arm)})" if partial else arm, tone="name"
    )


def _seeds_note(analysis: Analysis) -> str:
    seeds = ", ".join(map(str, analysis.study.seeds))
    return f" Seeds {seeds}, averaged." if len(analysis.study.seeds) > 1 else f" Seed {seeds}."


def _blind_note(analysis: Analysis) -> str:
    blind = any(map(analysis.is_blind, analysis.categories))
    return (
        " Blind: in some arm the score did not fall when the images were mirrored left to right."
        if blind
        else ""
    )


def scores_table(analysis: Analysis) -> Table:
    def shown(arm: str, category: str) -> Shown:
        found = analysis.estimate(arm, category)
        return (
            _missing(analysis, arm, category)
            if found.mean is None
            else Shown(f"{found.mean:.3f} ({span(found.interval)})")
        )

    return Table(
        name="scores",
        title="Score with 95% interval",
        note="Percentile bootstrap over prompts, 10,000 resamples. The CSV counts prompts and unscored prompts.",
        header=("arm", *map(analysis.heading, analysis.categories)),
        rows=tuple(
            (_arm(analysis, arm), *[shown(arm, category) for category in analysis.categories])
            for arm in analysis.arms
        ),
        fields=("arm", "category", "state", "seeds", "mean", "low", "high", "prompts", "unscored_prompts"),
        records=tuple(
            (
                arm,
                category,
                analysis.state(arm),
                len(analysis.measured_cells(arm)),
                *_estimate_record(analysis.estimate(arm, category)),
            )
            for arm in analysis.arms
            for category in analysis.categories
        ),
        legend=legend(analysis),
    )


def _estimate_record(found: Estimate) -> tuple[Value, ...]:
    return found.mean, found.interval.low, found.interval.high, found.prompts, found.unscored


def differences_table(analysis: Analysis, role: str, reference: str) -> Table:
    others = [arm for arm in analysis.arms if arm != reference]
    return Table(
        name=f"differences_to_{role}",
        title=f"Difference to {reference}",
        note=f"Arm minus {reference}, paired by prompt, with 95% bootstrap interval and two-sided sign-flip p (not corrected here).",
        header=("arm", *map(analysis.heading, analysis.categories)),
        rows=tuple(
            (
                _arm(analysis, arm),
                *[
                    _difference(analysis.compare(arm, reference, category))
                    for category in analysis.categories
                ],
            )
            for arm in others
        ),
        fields=("arm", "reference", "category", *_COMPARISON_FIELDS, "reason"),
        records=tuple(
            (arm, reference, category, *_comparison_record(analysis.compare(arm, reference, category)))
            for arm in others
            for category in analysis.categories
        ),
        legend=legend(analysis),
    )


_COMPARISON_FIELDS = ("effect", "low", "high", "p", "prompts", "excluded_prompts")


def _comparison_record(found: Comparison | str | None) -> tuple[Value, ...]:
    if not isinstance(found, Comparison):
        return (None,) * len(_COMPARISON_FIELDS) + (found,)
    return found.effect, found.interval.low, found.interval.high, found.p, found.prompts, found.excluded, None


def _difference(found: Comparison | str) -> Shown:
    if isinstance(found, str):
        return Shown(found, tone="missing")
    tone = ("good" if found.effect > 0 else "bad") if found.p < ALPHA else "quiet"
    return Shown(f"{signed(found.effect)} ({span(found.interval, sign=True)}) p {p_text(found.p)}", tone=tone)


_TONES = {REPRODUCED: "good", CONTRADICTED: "bad"}


def claims_table(verdicts: Sequence[Verdict]) -> Table:
    outcomes = ("holds", "reversed", "undecided", "not measured")
    return Table(
        name="claims",
        title="Claims and verdicts",
        note="Reproduced: every part is significant (Holm p < 0.05) as claimed. Contradicted: a part is significantly reversed.",
        header=("claim", "verdict", "parts", *outcomes),
        rows=tuple(
            (
                Shown(verdict.claim.text, tone="name"),
                Shown(verdict_text(verdict), tone=_TONES.get(verdict.verdict, "quiet")),
                *[Shown(str(count)) for count in (len(verdict.parts), *map(verdict.count, outcomes))],
            )
            for verdict in verdicts
        ),
        fields=(
            "claim",
            "text",
            "verdict",
            "note",
            "parts",
            *[outcome.replace(" ", "_") for outcome in outcomes],
        ),
        records=tuple(
            (
                verdict.claim.id,
                verdict.claim.text,
                verdict.verdict,
                verdict.note,
                len(verdict.parts),
                *map(verdict.count, outcomes),
            )
            for verdict in verdicts
        ),
    )


def verdict_text(verdict: Verdict) -> str:
    return f"{verdict.verdict} ({verdict.note})" if verdict.note else verdict.verdict


def parts_table(analysis: Analysis) -> Table:
    pairs = [(verdict.claim, part) for verdict in analysis.verdicts for part in verdict.parts]
    return Table(
        name="claim_parts",
        title="The parts of the claims",
        note="Ours and the paper's difference of the same two table cells; p corrected by Holm over all parts.",
        header=PART_HEADER,
        rows=tuple((Shown(claim.id, tone="name"), *part_cells(analysis, part)) for claim, part in pairs),
        fields=(
            "claim", "better", "than", "category", "outcome", *_COMPARISON_FIELDS, "reason",
            "p_holm", "published_difference", "prompts_needed", "effect_by_seed",
        ),
        records=tuple(
            (
                claim.id, part.part.better, part.part.than, part.part.category, part.outcome,
                *_comparison_record(part.comparison or part.reason), part.p_holm, part.published, part.prompts_needed,
                " ".join(f"{effect:.6g}" for effect in analysis.seed_effects(part.part)),
            )
            for claim, part in pairs
        ),
        legend=legend(analysis),
    )  # fmt: skip


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


def part_cells(analysis: Analysis, part: PartResult) -> tuple[Shown, ...]:
    """A part as it is shown, without the claim's name."""
    tone = {"holds": "good", "reversed": "bad", "undecided": "quiet"}.get(part.outcome, "missing")
    found = part.comparison
    return (
        Shown(f"{part.part.better} > {part.part.than}", tone="name"),
        Shown(analysis.heading(part.part.category)),
        Shown(part.outcome if found else f"{part.outcome}: {part.reason}", tone=tone),
        Shown(signed(found.effect) if found else "–", tone=tone if found else ""),
        Shown(span(found.interval, sign=True) if found else "–"),
        Shown("–" if part.p_holm is None else p_text(part.p_holm)),
        Shown("–" if part.published is None else f"{part.published:+.4f}".replace("-", "−")),
        Shown("–" if part.prompts_needed is None else f"{part.prompts_needed:,}"),
    )


def split_table(analysis: Analysis, fact: str) -> Table | None:
    """Scores by a fact that only some of a category's prompts have; None where the prompts do not differ in it."""
    names = SPLITS[fact]
    values = analysis.split_values(fact, tuple(names))
    if not values:
        return None
    columns = [(category, value) for category, taken in values.items() for value in taken]
    cells = {
        (arm, *column): analysis.split_estimate(arm, column[0], fact, column[1])
        for arm in analysis.arms
        for column in columns
    }

    def shown(arm: str, category: str, value: object) -> Shown:
        found = cells[arm, category, value]
        return _missing(analysis, arm, category) if found.mean is None else Shown(f"{found.mean:.3f}")

    kinds = " and ".join(names.values())
    return Table(
        name=f"split_{fact}",
        title=f"{kinds.capitalize()} prompts",
        note=f"Mean score over the {kinds} prompts, for each category that has both.",
        header=("arm", *[f"{analysis.heading(category)} {names[value]}" for category, value in columns]),
        rows=tuple(
            (_arm(analysis, arm), *[shown(arm, *column) for column in columns]) for arm in analysis.arms
        ),
        fields=("arm", "category", "prompts_are", "mean", "low", "high", "prompts", "unscored_prompts"),
        records=tuple(
            (arm, category, names[value], *_estimate_record(cells[arm, category, value]))
            for arm in analysis.arms
            for category, value in columns
        ),
        legend=legend(analysis, list(values)),
    )


def rank_correlation(analysis: Analysis, category: str) -> tuple[float | None, int]:
    """Spearman's rho between our and the published scores of the arms that have both, and how many those are."""
    pairs = [
        (ours, analysis.published[arm][category])
        for arm in analysis.arms
        if category in analysis.published.get(arm, {})
        and (ours := analysis.estimate(arm, category).mean) is not None
    ]
    if len(pairs) < 3 or any(len(set(side)) == 1 for side in zip(*pairs, strict=True)):
        return None, len(pairs)
    return float(spearmanr(*zip(*pairs, strict=True)).statistic), len(pairs)


def _apart_note(analysis: Analysis) -> str:
    """Where the paper's numbers of categories that were split have gone."""
    apart = [
        category
        for category in analysis.study.split
        if any(category in row for row in analysis.published.values())
    ]
    return f" Not here: {', '.join(apart)}, of which our scores are of unequal metrics." if apart else ""


def published_tables(analysis: Analysis) -> list[Table]:
    """Ours beside the paper's numbers, and how alike the orders of the arms are."""
    columns = [
        category
        for category in analysis.categories
        if any(category in row for row in analysis.published.values())
    ]
    arms = [arm for arm in analysis.arms if arm in analysis.published]
    if not columns or not arms:
        return []
    correlations = {category: rank_correlation(analysis, category) for category in columns}

    def gain(value: float | None, reference: float | None) -> float | None:
        return None if value is None or reference is None else value - reference

    def published(arm: str | None, category: str) -> float | None:
        return analysis.published.get(arm or "", {}).get(category)

    def ours(arm: str | None, category: str) -> float | None:
        return None if arm not in analysis.arms else analysis.estimate(arm, category).mean

    def shown(arm: str, category: str) -> Shown:
        mean, theirs = ours(arm, category), published(arm, category)
        left = _missing(analysis, arm, category).text if mean is None else f"{mean:.3f}"
        return Shown(
            f"{left} / {'–' if theirs is None else f'{theirs:.4f}'}", tone="missing" if mean is None else ""
        )

    versus = Table(
        name="published",
        title="Ours / the paper's",
        note="The two worlds differ, so compare order and sign, not size." + _apart_note(analysis),
        header=("arm", *map(analysis.heading, columns)),
        rows=tuple((_arm(analysis, arm), *[shown(arm, category) for category in columns]) for arm in arms),
        fields=("arm", "category", "ours", "published", "ours_minus_baseline", "published_minus_baseline"),
        records=tuple(
            (
                arm, category, ours(arm, category), published(arm, category),
                gain(ours(arm, category), ours(analysis.baseline, category)),
                gain(published(arm, category), published(analysis.baseline, category)),
            )
            for arm in arms
            for category in columns
        ),
        legend=legend(analysis, columns),
    )  # fmt: skip
    ranks = Table(
        name="rank_correlation",
        title="Do the arms come in the paper's order?",
        note="Spearman's rho of the arms' scores, ours against the paper's: 1 the same order, 0 unrelated, −1 reversed.",
        header=("", *map(analysis.heading, columns)),
        rows=(
            (
                Shown("Spearman's rho", tone="name"),
                *[Shown("–" if rho is None else signed(rho)) for rho, _ in correlations.values()],
            ),
        ),
        fields=("category", "spearman", "arms"),
        records=tuple((category, *correlations[category]) for category in columns),
        legend=legend(analysis, columns),
    )
    return [versus, ranks]
