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

from harness.analysis.claims import PartResult, Verdict, decision_level
from harness.analysis.statistics import FLIPS, RESAMPLES
from harness.analysis.study import Analysis
from harness.report.answer import answer, rewarding_experts
from harness.report.cells import p_text, signed, span
from harness.report.claim_tables import PART_HEADER, part_cells
from harness.report.cost import total_seconds
from harness.report.factor_tables import PREFIX
from harness.report.gallery import SHEET_ARMS, Exhibit
from harness.report.legend import described_columns
from harness.report.published_tables import agreement_text
from harness.report.table import Table, markdown

_TABLES_BELOW_CLAIMS = (
    "scores", "differences_to_baseline", "differences_to_full", "published", "rank_correlation",
    "split_unseen", "split_phrasing", "training", "counts", "cells", "cost",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Contents:
    """The contents of both pages."""

    analysis: Analysis
    tables: Mapping[str, Table]
    captions: Mapping[str, str]
    exhibits: Sequence[Exhibit]
    origin: Mapping[str, Any]


def write_pages(folder: Path, contents: Contents) -> None:
    """Write both pages. The figures are read from `folder/figures`."""
    values = _values(contents)
    page = _environment(html=True).get_template("index.html.j2")
    figures = {name: _svg_source(folder / "figures" / f"{name}.svg") for name in contents.captions}
    (folder / "index.html").write_text(page.render(**values, figures=figures), encoding="utf-8", newline="\n")
    text = _environment(html=False).get_template("report.md.j2").render(**values)
    (folder / "report.md").write_text(re.sub(r"\n{3,}", "\n\n", text), encoding="utf-8", newline="\n")


def _environment(*, html: bool) -> Environment:
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
    return {
        "study": study,
        "question": study.study.get("question") or f"Study {study.name}",
        "source": study.study.get("source") or "",
        "setting": (study.study.get("published") or {}).get("setting") or "",
        "answer": answer(analysis),
        "experts": rewarding_experts(analysis),
        "agreement": agreement_text(analysis),
        "unmeasured": [cell for cell in study.cells if not cell.measured],
        "main": replace(contents.tables["table"], legend=""),  # `columns` says more
        "columns": described_columns(analysis),
        "claims": [_claim(analysis, verdict) for verdict in analysis.verdicts],
        "part_header": PART_HEADER[1:],
        "details": _details(contents.tables),
        "captions": contents.captions,
        "exhibits": contents.exhibits,
        "sheet_arms": SHEET_ARMS,
        "origin": contents.origin,
        "minutes": f"{total_seconds(study) / 60:.1f}",
        "method": method(analysis),
        "table_text": lambda table: Markup(table.markdown()),
    }


def _details(tables: Mapping[str, Table]) -> list[Table]:
    """Return the tables below the claims, those of the factors first."""
    names = [name for name in tables if name.startswith(PREFIX)]
    return [tables[name] for name in (*names, *_TABLES_BELOW_CLAIMS) if name in tables]


def _claim(analysis: Analysis, verdict: Verdict) -> dict[str, Any]:
    return {
        "text": verdict.claim.text,
        "verdict": verdict.verdict,
        "note": verdict.note,
        "holds": verdict.count("holds"),
        "total": len(verdict.results),
        "decisive": _result_text(analysis, verdict.decisive),
        "parts": [part_cells(analysis, result) for result in verdict.results],
    }


def _result_text(analysis: Analysis, result: PartResult) -> str:
    part, comparison = result.part, result.comparison
    text = f"{part.better} > {part.than} in {analysis.heading(part.category)}: "
    if comparison and result.p_holm is not None:
        interval = span(comparison.interval, sign=True)
        text += f"{signed(comparison.effect)} ({interval}), p {p_text(result.p_holm)}"
    else:
        text += str(result.reason)
    if result.published is not None:
        text += f"; the paper {signed(result.published, 4)}"
    return text


def method(analysis: Analysis) -> list[str]:
    """Return how the numbers are computed, as a list of paragraphs."""
    level = decision_level(analysis.verdicts)
    measured = set()
    for verdict in analysis.verdicts:
        measured |= {result.part for result in verdict.results if result.comparison}
    paragraphs = [
        "The value of a prompt is its mean over images and seeds. Prompts are the units of every interval and"
        " test. Unscored samples are excluded, pair by pair, and counted; they are never 0.",
        f"Intervals: percentile bootstrap over prompts, {RESAMPLES:,} resamples, 95%. p: two-sided sign-flip"
        f" permutation of the paired differences, {FLIPS:,} flips, exact with few nonzero differences.",
        f"The {len(measured)} measured parts of all claims are one family (Holm). A claim is reproduced if"
        " every part is significant, contradicted if any part is significantly reversed, else undecided.",
        "Intervals hold for new prompts, not for new training seeds: with one seed, a verdict is about this"
        " run only.",
    ]
    if level is not None:
        paragraphs.append(
            "Prompts to decide: the number of prompts that would show the effect of an undecided part with"
            f" power 0.8 at the two-sided level {level:.2g} (the level that Holm sets for the next part), if"
            " effect and spread stay as they are here."
        )
    return paragraphs


def _svg_source(file: Path) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(file.read_bytes()).decode()}"
