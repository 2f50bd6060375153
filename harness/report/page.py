"""Writes `report.md`, for reading in a repository, and `index.html`, a self-contained page with the same
contents.

Templates escape every value, except `Markup` that is made here.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from harness.analysis.claims import Verdict, decision_level
from harness.analysis.statistics import FLIPS, RESAMPLES
from harness.analysis.study import Analysis
from harness.report.agreement_tables import AGREEMENT_METHOD
from harness.report.answer import answer, rewarding_experts
from harness.report.claim_tables import decisive_text, verdict_rules
from harness.report.contrast_tables import CONTRAST_HEADER, contrast_cells
from harness.report.cost import total_seconds
from harness.report.factor_tables import PREFIX
from harness.report.gallery import SHEET_ARMS, Exhibit
from harness.report.legend import described_columns
from harness.report.partial import ENDED, Partial
from harness.report.plan_sections import plan_findings, plan_sections
from harness.report.preference_examples import vote_examples
from harness.report.preference_text import PREFERENCE_METHOD, preference_sentences
from harness.report.published_tables import paper_order
from harness.report.section import Section
from harness.report.table import Table, markdown
from harness.report.training_section import training_section

_TABLES_BELOW_CLAIMS = (
    "agreement_by_category", "votes", "judges", "judge_agreement", "strengths", "vote_cost",
    "claim_parts",
    "scores", "differences_to_baseline", "differences_to_full", "published", "rank_correlation",
    "split_unseen", "split_phrasing", "training", "counts", "cells", "cost",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Contents:
    """The contents of both pages. `partial` is None once no cell is still to come."""

    analysis: Analysis
    partial: Partial | None
    tables: Mapping[str, Table]
    captions: Mapping[str, str]
    exhibits: Sequence[Exhibit]
    origin: Mapping[str, Any]


def write_pages(folder: Path, contents: Contents) -> None:
    """Write both pages. The figures are read from `folder/figures`."""
    values = _values(contents)
    page = environment(html=True).get_template("index.html.j2")
    figures = {name: _svg_source(folder / "figures" / f"{name}.svg") for name in contents.captions}
    (folder / "index.html").write_text(page.render(**values, figures=figures), encoding="utf-8", newline="\n")
    text = environment(html=False).get_template("report.md.j2").render(**values)
    (folder / "report.md").write_text(re.sub(r"\n{3,}", "\n\n", text), encoding="utf-8", newline="\n")


def environment(*, html: bool) -> Environment:
    """Return the templates of pages in HTML, or in Markdown, each with the escapes of its language."""
    environment = Environment(
        loader=PackageLoader("harness.report"),
        autoescape=html,
        finalize=(lambda value: value) if html else markdown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["fence"] = fence
    return environment


def fence(text: str) -> Markup:
    """Return a Markdown code block around any text."""
    ticks = "`" * max(3, 1 + max(map(len, re.findall(r"`+", text)), default=0))
    return Markup(f"{ticks}text\n{text.rstrip()}\n{ticks}")


def _values(contents: Contents) -> dict[str, Any]:
    analysis = contents.analysis
    study = analysis.study
    sections = plan_sections(contents.tables, contents.captions)
    training = training_section(contents.captions)
    return {
        "study": study,
        "question": study.study.get("question") or f"Study {study.name}",
        "source": study.study.get("source") or "",
        "limits": (study.study.get("limits") or "").strip(),
        "setting": (study.study.get("published") or {}).get("setting") or "",
        "partial": contents.partial,
        "answer": answer(analysis, so_far=contents.partial is not None),
        "findings": plan_findings(analysis),
        "sections": sections,
        "experts": rewarding_experts(analysis),
        "paper_order": paper_order(analysis),
        "unmeasured": [cell for cell in study.planned if cell.state in ENDED and not cell.measured],
        "votes": preference_sentences(analysis.preference),
        "vote_examples": vote_examples(study, analysis.preference),
        "main": _main_table(contents),
        "columns": described_columns(analysis),
        "claims": [_claim(analysis, verdict) for verdict in analysis.verdicts],
        "contrast_header": CONTRAST_HEADER,
        "rules": verdict_rules(analysis.verdicts),
        "contrasts": contents.tables.get("contrasts"),
        "details": _details(contents.tables),
        "captions": _plots(contents.captions, [*sections, training]),
        "training": training,
        "exhibits": contents.exhibits,
        "sheet_arms": SHEET_ARMS,
        "origin": contents.origin,
        "minutes": f"{total_seconds(study) / 60:.1f}",
        "method": method(analysis),
        "table_text": lambda table: Markup(table.markdown()),
    }


def _main_table(contents: Contents) -> Table:
    """Return the table at the head of the page, without its legend: the `columns` of the page say more."""
    name = "agreement" if contents.analysis.agreements else "table"
    table = contents.tables[name]
    note = f"{contents.partial.mark} {table.note}" if contents.partial else table.note
    return replace(table, note=note, legend="")


def _plots(captions: Mapping[str, str], sections: Sequence[Section]) -> dict[str, str]:
    """Return the captions of the figures that no section shows."""
    shown: dict[str, str] = {}
    for section in sections:
        shown |= section.figures
    return {name: caption for name, caption in captions.items() if name not in shown}


def _details(tables: Mapping[str, Table]) -> list[Table]:
    """Return the tables below the claims, those of the factors first."""
    names = [name for name in tables if name.startswith(PREFIX)]
    return [tables[name] for name in (*names, *_TABLES_BELOW_CLAIMS) if name in tables]


def _claim(analysis: Analysis, verdict: Verdict) -> dict[str, Any]:
    return {
        "text": verdict.claim.text,
        "verdict": verdict.verdict,
        "note": verdict.note,
        "holds": verdict.count(verdict.claim.expected),
        "total": len(verdict.results),
        "decisive": decisive_text(verdict.decisive),
        "contrasts": [contrast_cells(analysis, result) for result in verdict.results],
    }


def method(analysis: Analysis) -> list[str]:
    """Return how the numbers are computed, as a list of paragraphs."""
    if analysis.agreements:
        return list(AGREEMENT_METHOD)
    contrasts = set()
    for verdict in analysis.verdicts:
        contrasts |= {result.contrast for result in verdict.results if result.comparison}
    values = [
        "The value of a prompt is its mean over images. Unscored samples are excluded, pair by pair, and"
        " counted; they are never 0.",
        f"Intervals of scores: percentile bootstrap over prompts within categories, {RESAMPLES:,} resamples,"
        " 95%.",
    ]
    paragraphs = [
        *(PREFERENCE_METHOD if analysis.preference else values),
        "A contrast is the difference of two arms: the mean over the categories of the mean over prompts."
        f" The {len(contrasts)} distinct measured contrasts of all claims are one family (Holm). The tests of"
        " equality are not corrected. A significant difference counts as one, also below the margin.",
        _inference(len(analysis.study.seeds)),
    ]
    level = decision_level(analysis.verdicts)
    if level is not None:
        paragraphs.append(
            "To decide: the prompts per category, or else the seeds, that would decide an undecided contrast"
            " with power 0.8, if effect and spread stay as they are here. An effect above the margin would be"
            f" decided as a difference, at the two-sided level {level:.2g} (the level that Holm sets for the"
            " next contrast). A smaller effect would be decided as equal. One seed does not tell how many"
            " seeds would decide."
        )
    return paragraphs


def _inference(seeds: int) -> str:
    """Return how differences are tested with this number of seeds."""
    if seeds == 1:
        return (
            "One seed: differences are about the models of this run, not about training. Intervals are"
            " percentile bootstraps over prompts within categories; p is a two-sided sign-flip permutation of"
            f" the paired differences, {FLIPS:,} flips, exact with few nonzero differences."
        )
    return (
        f"{seeds} seeds: differences are about training. The half-width of an interval is the root of the sum"
        " of two squares: the half-width over prompts (t, of the differences averaged over seeds) and that"
        f" over training runs (t with {seeds - 1} degrees of freedom, of the difference per seed). p is the"
        " level at which the interval ends at 0."
    )


def _svg_source(file: Path) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(file.read_bytes()).decode()}"
