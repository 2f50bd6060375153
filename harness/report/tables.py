"""The tables of scores and differences. They hold no time and no date."""

from __future__ import annotations

from collections.abc import Sequence

from harness.analysis.study import Analysis
from harness.report.agreement_tables import agreement_tables
from harness.report.cells import (
    COMPARISON_FIELDS,
    arm_cell,
    comparison_record,
    difference_cell,
    estimate_record,
    missing_cell,
    span,
)
from harness.report.claim_tables import claims_table
from harness.report.contrast_tables import contrasts_table, parts_table
from harness.report.factor_tables import factor_tables
from harness.report.legend import legend, metrics_table
from harness.report.plan_tables import plan_tables
from harness.report.preference_tables import preference_tables
from harness.report.published_tables import published_tables
from harness.report.table import Shown, Table

MACRO = "mean over categories"

# A prompt's fact -> its values and the name of the prompts that have them.
SPLITS: dict[str, dict[object, str]] = {
    "unseen": {False: "seen", True: "unseen"},
    "phrasing": {"direct": "direct", "inverse": "inverse"},
}


def score_tables(analysis: Analysis) -> list[Table]:
    """Return every table of scores, differences and claims; of a study of judges those of agreement."""
    if analysis.agreements:  # the scores are those of unequal judges: no table compares them
        return agreement_tables(analysis)
    if analysis.preference:  # there are votes and no scores
        return preference_tables(analysis, analysis.preference)
    tables: list[Table | None] = [main_table(analysis), *factor_tables(analysis), scores_table(analysis)]
    for role, arm in (("baseline", analysis.baseline), ("full", analysis.full)):
        if arm in analysis.arms:
            tables.append(differences_table(analysis, role, arm))
    if analysis.verdicts:
        tables += [claims_table(analysis.verdicts), contrasts_table(analysis), parts_table(analysis)]
    tables += [split_table(analysis, fact) for fact in SPLITS]
    tables += published_tables(analysis)
    tables += plan_tables(analysis)
    tables.append(metrics_table(analysis))
    return [table for table in tables if table is not None]


def main_table(analysis: Analysis) -> Table:
    """Return the scores, one row per arm: the mean over the categories, then a column per category."""
    columns = [_macro_column(analysis), *[_column(analysis, category) for category in analysis.categories]]
    rows, records = [], []
    for number, arm in enumerate(analysis.arms):
        rows.append((arm_cell(analysis, arm), *[column[number] for column in columns]))
        macro = analysis.macro(arm)
        missing = _macro_absence(analysis, arm) if macro.mean is None else macro.mean
        record: list[str | float | None] = [arm, missing, macro.interval.low, macro.interval.high]
        for category in analysis.categories:
            mean = analysis.estimate(arm, category).mean
            record.append(analysis.absence(arm, category) if mean is None else mean)
        records.append(tuple(record))
    metrics = legend(analysis)
    scale = "" if metrics else ", 0 to 1"  # metrics that are stated have scales of their own
    note = (
        f"Mean over prompts{scale}; the best of each column is marked. In the first column every category"
        " weighs the same, with the 95% interval."
    )
    return Table(
        name="table",
        title="Score per category",
        note=note + _seeds_note(analysis) + _blind_note(analysis),
        header=("arm", MACRO, *map(analysis.heading, analysis.categories)),
        rows=tuple(rows),
        fields=("arm", "mean", "mean_low", "mean_high", *analysis.categories),
        records=tuple(records),
        legend=metrics,
    )


def _macro_column(analysis: Analysis) -> list[Shown]:
    estimates = [analysis.macro(arm) for arm in analysis.arms]
    texts = []
    for arm, macro in zip(analysis.arms, estimates, strict=True):
        if macro.mean is None:
            texts.append(_macro_absence(analysis, arm))
        else:
            texts.append(f"{macro.mean:.3f} ({span(macro.interval)})")
    return _shown([macro.mean for macro in estimates], texts)


def _macro_absence(analysis: Analysis, arm: str) -> str:
    """Return why an arm has no mean over the categories: the reason of the first one without a number."""
    for category in analysis.categories:
        if analysis.estimate(arm, category).mean is None:
            return analysis.absence(arm, category)
    return analysis.state(arm)


def _column(analysis: Analysis, category: str) -> list[Shown]:
    means = [analysis.estimate(arm, category).mean for arm in analysis.arms]
    texts = []
    for arm, mean in zip(analysis.arms, means, strict=True):
        texts.append(analysis.absence(arm, category) if mean is None else f"{mean:.3f}")
    return _shown(means, texts)


def _shown(means: Sequence[float | None], texts: Sequence[str]) -> list[Shown]:
    """Return the cells of a column, with the best marked, and the reasons for missing means."""
    known = [mean for mean in means if mean is not None]
    low, high = (min(known), max(known)) if known else (0.0, 0.0)
    column = []
    for mean, text in zip(means, texts, strict=True):
        if mean is None:
            column.append(Shown(text, tone="missing"))
        else:
            heat = (mean - low) / (high - low) if high > low else None
            column.append(Shown(text, strong=mean == high, heat=heat))
    return column


def _seeds_note(analysis: Analysis) -> str:
    seeds = ", ".join(map(str, analysis.study.seeds))
    return f" Seeds {seeds}, averaged." if len(analysis.study.seeds) > 1 else f" Seed {seeds}."


def _blind_note(analysis: Analysis) -> str:
    if not any(map(analysis.is_blind, analysis.categories)):
        return ""
    return " Blind: in some arm the score did not fall when the images were mirrored left to right."


def scores_table(analysis: Analysis) -> Table:
    """Return the scores with their intervals and counts."""
    rows, records = [], []
    for arm in analysis.arms:
        cells = [arm_cell(analysis, arm)]
        state, seeds = analysis.state(arm), len(analysis.measured_cells(arm))
        for category in analysis.categories:
            estimate = analysis.estimate(arm, category)
            if estimate.mean is None:
                cells.append(missing_cell(analysis, arm, category))
            else:
                cells.append(Shown(f"{estimate.mean:.3f} ({span(estimate.interval)})"))
            records.append((arm, category, state, seeds, *estimate_record(estimate)))
        rows.append(tuple(cells))
    return Table(
        name="scores",
        title="Score with 95% interval",
        note=(
            "Percentile bootstrap over prompts, 10,000 resamples. The CSV counts prompts and unscored"
            " prompts."
        ),
        header=("arm", *map(analysis.heading, analysis.categories)),
        rows=tuple(rows),
        fields=("arm", "category", "state", "seeds", "mean", "low", "high", "prompts", "unscored_prompts"),
        records=tuple(records),
        legend=legend(analysis),
    )


def differences_table(analysis: Analysis, role: str, reference: str) -> Table:
    """Return the difference of every other arm to `reference`, which has the `role` baseline or full."""
    rows, records = [], []
    for arm in analysis.arms:
        if arm == reference:
            continue
        cells = [arm_cell(analysis, arm)]
        for category in analysis.categories:
            comparison = analysis.compare(arm, reference, category)
            cells.append(difference_cell(comparison))
            records.append((arm, reference, category, *comparison_record(comparison)))
        rows.append(tuple(cells))
    return Table(
        name=f"differences_to_{role}",
        title=f"Difference to {reference}",
        note=(
            f"Arm minus {reference}, paired by prompt, with 95% interval and two-sided p, which is not"
            " corrected here."
        ),
        header=("arm", *map(analysis.heading, analysis.categories)),
        rows=tuple(rows),
        fields=("arm", "reference", "category", *COMPARISON_FIELDS),
        records=tuple(records),
        legend=legend(analysis),
    )


def split_table(analysis: Analysis, fact: str) -> Table | None:
    """Return the scores by a fact of the prompts; None where no category has prompts of several values."""
    names = SPLITS[fact]
    values = analysis.split_values(fact, tuple(names))
    if not values:
        return None
    header = ["arm"]
    for category in values:
        header += [f"{analysis.heading(category)} {names[value]}" for value in values[category]]
    rows, records = [], []
    for arm in analysis.arms:
        cells = [arm_cell(analysis, arm)]
        for category in values:
            for value in values[category]:
                estimate = analysis.split_estimate(arm, category, fact, value)
                if estimate.mean is None:
                    cells.append(missing_cell(analysis, arm, category))
                else:
                    cells.append(Shown(f"{estimate.mean:.3f}"))
                records.append((arm, category, names[value], *estimate_record(estimate)))
        rows.append(tuple(cells))
    kinds = " and ".join(names.values())
    return Table(
        name=f"split_{fact}",
        title=f"{kinds.capitalize()} prompts",
        note=f"Mean score over the {kinds} prompts, for each category that has both.",
        header=tuple(header),
        rows=tuple(rows),
        fields=("arm", "category", "prompts_are", "mean", "low", "high", "prompts", "unscored_prompts"),
        records=tuple(records),
        legend=legend(analysis, list(values)),
    )
