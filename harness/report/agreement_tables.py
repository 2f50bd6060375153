"""The tables of a study of judges: their agreement with a reference, beside that of the paper's judges."""

from __future__ import annotations

from harness.analysis.agreement import RESAMPLES, Agreement
from harness.analysis.study import Analysis
from harness.report.cells import arm_cell, span
from harness.report.table import Shown, Table, Value

MEASURES = ("tau", "rho")
FIELDS = (
    "judge",
    *("tau", "tau_low", "tau_high", "rho", "rho_low", "rho_high", "published_tau", "published_rho"),
    *("pairs", "prompts", "unscored", "no_reference", "reason"),
)

AGREEMENT_METHOD = (
    "A pair is a sample that the judge and the reference have scored. Samples that one of them left unscored"
    " are counted; they are never 0.",
    "Kendall's tau-b and Spearman's rho are over all pairs of an arm, of all its seeds. Both count ties. 1 is"
    " the same order, 0 unrelated, −1 reversed.",
    f"Intervals: percentile bootstrap over prompts, {RESAMPLES:,} resamples, 95%. A resample draws prompts,"
    " each with all its samples. Resamples in which all scores are equal are left out.",
)


def agreement_tables(analysis: Analysis) -> list[Table]:
    """Return the agreement of every judge, over all samples and per category."""
    return [_agreement_table(analysis), _category_table(analysis)]


def agreement_answer(analysis: Analysis) -> str | None:
    """Return the outcome of a study of judges in a sentence; None in other studies."""
    if not analysis.agreements:
        return None
    texts = []
    for judge in judges(analysis):
        found, paper = analysis.agreements.get(judge), published(analysis, judge, "tau")
        if found:
            ours = "undefined" if found.tau is None else f"{found.tau:.2f}"
            texts.append(f"{judge} {ours}" + (f" (the paper {paper:.2f})" if paper is not None else ""))
    return f"Kendall's tau with the reference: {', '.join(texts)}"


def judges(analysis: Analysis) -> list[str]:
    """Return the arms, then the judges of the published table that are not in this run."""
    return list(dict.fromkeys([*analysis.arms, *analysis.published]))


def published(analysis: Analysis, judge: str, measure: str) -> float | None:
    """Return the published `tau` or `rho` of a judge, None where there is none."""
    return analysis.published.get(judge, {}).get(measure)


def absence(analysis: Analysis, judge: str) -> str:
    """Return why a judge has no agreement here."""
    if judge not in analysis.arms:
        return "not in this run"
    return "no reference" if analysis.measured_cells(judge) else analysis.state(judge)


def _agreement_table(analysis: Analysis) -> Table:
    return Table(
        name="agreement",
        title="Agreement of the judges with the reference",
        note=_note(analysis),
        header=("judge", "Kendall's tau-b", "the paper", "Spearman's rho", "the paper", "pairs", "unscored"),
        rows=tuple(_row(analysis, judge) for judge in judges(analysis)),
        fields=FIELDS,
        records=tuple(_record(analysis, judge) for judge in judges(analysis)),
    )


def _row(analysis: Analysis, judge: str) -> tuple[Shown, ...]:
    found = analysis.agreements.get(judge)
    cells = [arm_cell(analysis, judge)]
    for measure in MEASURES:
        value = getattr(found, measure, None)
        if found is None or value is None:
            reason = found.reason if found else absence(analysis, judge)
            cells.append(Shown(str(reason), tone="missing"))
        else:
            cells.append(Shown(f"{_text(value)} ({_minus(span(getattr(found, f'{measure}_interval')))})"))
        paper = published(analysis, judge, measure)
        cells.append(Shown("–" if paper is None else f"{paper:.4f}"))
    counts = (str(found.pairs), str(found.unscored)) if found else ("–", "–")
    return *cells, *map(Shown, counts)


def _record(analysis: Analysis, judge: str) -> tuple[Value, ...]:
    found = analysis.agreements.get(judge)
    papers = [published(analysis, judge, measure) for measure in MEASURES]
    if found is None:
        return judge, *[None] * 6, *papers, *[None] * 4, absence(analysis, judge)
    tau, rho = found.tau_interval, found.rho_interval
    correlations = (found.tau, tau.low, tau.high, found.rho, rho.low, rho.high)
    return judge, *correlations, *papers, *_counts(found)


def _note(analysis: Analysis) -> str:
    note = "In brackets: 95% bootstrap interval over prompts. 1 is the same order, 0 unrelated, −1 reversed."
    missing = sum(found.no_reference for found in analysis.agreements.values())
    if missing:
        note += f" {missing} samples have no reference."
    setting = (analysis.study.study.get("published") or {}).get("setting")
    return f"{note} The paper's setting: {setting}." if setting else note


def _category_table(analysis: Analysis) -> Table:
    rows: list[tuple[Shown, ...]] = []
    records: list[tuple[Value, ...]] = []
    for arm in analysis.agreements:
        cells = [arm_cell(analysis, arm)]
        for category, found in analysis.agreements_by_category(arm).items():
            cells.append(Shown("undefined", tone="missing") if found.tau is None else Shown(_text(found.tau)))
            records.append((arm, category, found.tau, found.rho, *_counts(found)))
        rows.append(tuple(cells))
    return Table(
        name="agreement_by_category",
        title="Agreement per category",
        note=(
            "Kendall's tau-b with the reference, within the category; undefined where all scores are equal."
            " The CSV has Spearman's rho too."
        ),
        header=("judge", *map(analysis.heading, analysis.categories)),
        rows=tuple(rows),
        fields=("judge", "category", "tau", "rho", *FIELDS[-5:]),
        records=tuple(records),
    )


def _text(value: float) -> str:
    return _minus(f"{value:.3f}")


def _minus(text: str) -> str:
    """Return numbers with typographic minus signs."""
    return text.replace("-", "−")


def _counts(found: Agreement) -> tuple[Value, ...]:
    return found.pairs, found.prompts, found.unscored, found.no_reference, found.reason
