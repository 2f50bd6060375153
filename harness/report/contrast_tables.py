"""The tables of the contrasts: one row per contrast of a claim, and one row per category of a contrast."""

from __future__ import annotations

from harness.analysis.claims import EQUAL, HOLDS, REVERSED, UNDECIDED, ContrastResult
from harness.analysis.contrasts import Comparison, Contrast
from harness.analysis.study import Analysis
from harness.report.cells import COMPARISON_FIELDS, comparison_record, difference_cell, p_text, signed, span
from harness.report.legend import legend
from harness.report.table import Shown, Table, Value

CONTRAST_HEADER = (
    *("contrast", "mean over", "outcome", "ours", "95% interval", "p (Holm)", "90% interval"),
    *("s.e. over prompts", "s.e. over runs", "paper", "categories in the paper's direction", "to decide"),
)
_FIELDS = (
    *("claim", "better", "than", "categories", "outcome", "effect", "low", "high", "p", "p_holm", "margin"),
    *("equivalence_low", "equivalence_high", "prompt_error", "run_error", "seeds", "effect_by_seed"),
    *("published_difference", "prompts_needed", "seeds_needed", "paper_direction", "prompts"),
    *("excluded_prompts", "reason", "above"),
)
_OUTCOME_TONES = {HOLDS: "good", REVERSED: "bad", EQUAL: "quiet", UNDECIDED: "quiet"}


def contrasts_table(analysis: Analysis) -> Table:
    """Return every contrast of every claim with all its numbers."""
    rows: list[tuple[Shown, ...]] = []
    records: list[tuple[Value, ...]] = []
    for verdict in analysis.verdicts:
        for result in verdict.results:
            rows.append((Shown(verdict.claim.id, tone="name"), *contrast_cells(analysis, result)))
            records.append(_record(verdict.claim.id, result))
    return Table(
        name="contrasts",
        title="The contrasts of the claims",
        note=(
            "Difference of two arms, the mean over the categories: ours and the paper's; p corrected by Holm"
            " over all distinct contrasts. The standard error over training runs (s.e.) needs several seeds."
        ),
        header=("claim", *CONTRAST_HEADER),
        rows=tuple(rows),
        fields=_FIELDS,
        records=tuple(records),
        legend=legend(analysis),
    )


def contrast_cells(analysis: Analysis, result: ContrastResult) -> tuple[Shown, ...]:
    """Return the cells of a contrast under `CONTRAST_HEADER`."""
    contrast, comparison = result.contrast, result.comparison
    tone = _OUTCOME_TONES.get(result.outcome, "missing")
    names = Shown(contrast.hypothesis, tone="name")
    over = Shown(_categories_text(analysis, contrast))
    published = result.published_difference
    paper = Shown("–" if published is None else signed(published))
    if comparison is None or result.p_holm is None:
        missing = [Shown("–")] * 6
        reason = Shown(f"{result.outcome}: {result.reason}", tone=tone)
        return (names, over, reason, *missing, paper, Shown("–"), Shown("–"))
    return (
        names,
        over,
        Shown(result.outcome, tone=tone),
        Shown(signed(comparison.effect), tone=tone),
        Shown(span(comparison.interval, sign=True)),
        Shown(p_text(result.p_holm)),
        Shown(span(comparison.equivalence, sign=True)),
        _error_cell(comparison.spread.prompt_error),
        _error_cell(comparison.spread.run_error),
        paper,
        Shown("{} of {}".format(*result.agreement())),
        Shown(_needs_text(result)),
    )


def _categories_text(analysis: Analysis, contrast: Contrast) -> str:
    names = contrast.categories
    if len(names) > 2 and set(names) == set(analysis.categories):
        return f"all {len(names)} categories"
    return ", ".join(map(analysis.heading, names))


def _error_cell(error: float | None) -> Shown:
    return Shown("–" if error is None else f"{error:.3f}")


def _needs_text(result: ContrastResult) -> str:
    """Return the prompts per category and the seeds that would decide an undecided contrast."""
    if result.outcome != UNDECIDED:
        return "–"
    needs = []
    if result.prompts_needed is not None:
        needs.append(f"{result.prompts_needed:,} prompts")
    if result.seeds_needed is not None:
        needs.append(f"{result.seeds_needed} seeds")
    return " or ".join(needs) or "more prompts and seeds"


def _record(claim: str, result: ContrastResult) -> tuple[Value, ...]:
    contrast, comparison = result.contrast, result.comparison
    values: dict[str, Value] = {
        "claim": claim,
        "better": contrast.better,
        "than": contrast.than,
        "categories": " ".join(contrast.categories),
        "outcome": result.outcome,
        "p_holm": result.p_holm,
        "margin": result.margin.value,
        "published_difference": result.published_difference,
        "prompts_needed": result.prompts_needed,
        "seeds_needed": result.seeds_needed,
        "reason": result.reason,
        "above": contrast.above,
    }
    if comparison:
        values |= {
            "effect": comparison.effect,
            "low": comparison.interval.low,
            "high": comparison.interval.high,
            "p": comparison.p,
            "equivalence_low": comparison.equivalence.low,
            "equivalence_high": comparison.equivalence.high,
            "prompt_error": comparison.spread.prompt_error,
            "run_error": comparison.spread.run_error,
            "seeds": comparison.spread.seeds,
            "effect_by_seed": by_seed(comparison),
            "paper_direction": "{} of {}".format(*result.agreement()),
            "prompts": comparison.prompts,
            "excluded_prompts": comparison.excluded,
        }
    return tuple(map(values.get, _FIELDS))


def by_seed(comparison: Comparison) -> str:
    """Return the effect of every seed, separated by spaces."""
    return " ".join(f"{effect:.6g}" for effect in comparison.by_seed)


def parts_table(analysis: Analysis) -> Table:
    """Return the difference of every contrast in each of its categories."""
    parts: dict[tuple[str, Contrast], float | None] = {}
    for verdict in analysis.verdicts:
        for result in verdict.results:
            for part in result.contrast.parts():
                parts[verdict.claim.id, part] = result.published.get(part.categories[0])
    rows: list[tuple[Shown, ...]] = []
    records: list[tuple[Value, ...]] = []
    for (claim, part), published in parts.items():
        comparison, category = analysis.contrast(part), part.categories[0]
        rows.append(
            (
                Shown(claim, tone="name"),
                Shown(part.hypothesis, tone="name"),
                Shown(analysis.heading(category)),
                difference_cell(comparison),
                Shown("–" if published is None else signed(published, 4)),
            )
        )
        errors: tuple[Value, ...] = (None, None, None)
        if isinstance(comparison, Comparison):
            spread = comparison.spread
            errors = (spread.prompt_error, spread.run_error, by_seed(comparison))
        record = (claim, part.better, part.than, category, *comparison_record(comparison), published)
        records.append((*record, *errors))
    return Table(
        name="claim_parts",
        title="The contrasts per category",
        note=(
            "Our difference with its 95% interval and p, not corrected, and the paper's. The verdicts do not"
            " depend on these rows."
        ),
        header=("claim", "contrast", "category", "ours", "paper"),
        rows=tuple(rows),
        fields=(
            *("claim", "better", "than", "category", *COMPARISON_FIELDS, "published_difference"),
            *("prompt_error", "run_error", "effect_by_seed"),
        ),
        records=tuple(records),
        legend=legend(analysis),
    )
