"""`report.md` and `index.html`: the same contents, once for reading in a repository and once as a self-contained page.

Everything that is put into a template is escaped unless it is `Markup` made here.
"""

from __future__ import annotations

import base64
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from harness.analysis.analysis import Analysis
from harness.analysis.claims import VERDICTS, decision_level
from harness.analysis.statistics import FLIPS, RESAMPLES
from harness.report.cost import total_seconds
from harness.report.gallery import Exhibit
from harness.report.legend import described_columns
from harness.report.table import Table, markdown
from harness.report.tables import PART_HEADER, p_text, part_cells, signed, span

_DETAILS = (  # what follows the claims, in the order it is read
    "scores", "differences_to_baseline", "differences_to_full", "published", "rank_correlation",
    "split_unseen", "split_phrasing", "training", "counts", "cells", "cost",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What both pages show."""

    analysis: Analysis
    tables: Mapping[str, Table]
    captions: Mapping[str, str]
    exhibits: Sequence[Exhibit]
    origin: Mapping[str, Any]


def write_pages(folder: Path, contents: Contents) -> None:
    """Writes both pages; the figures are read from `folder/figures`."""
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
    """A Markdown code block around any text."""
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
        "unmeasured": [cell for cell in study.cells if not cell.measured],
        "main": replace(contents.tables["table"], legend=""),  # the columns say more
        "columns": described_columns(analysis),
        "claims": [_claim(analysis, verdict) for verdict in analysis.verdicts],
        "part_header": PART_HEADER[1:],
        "details": [contents.tables[name] for name in _DETAILS if name in contents.tables],
        "captions": contents.captions,
        "exhibits": contents.exhibits,
        "origin": contents.origin,
        "minutes": f"{total_seconds(study) / 60:.1f}",
        "method": method(analysis),
        "table_text": lambda table: Markup(table.markdown()),
    }


def _claim(analysis: Analysis, verdict: Any) -> dict[str, Any]:
    decisive = verdict.decisive
    found = decisive.comparison
    line = f"{decisive.part.better} > {decisive.part.than} on {analysis.heading(decisive.part.category)}: "
    line += (
        f"{signed(found.effect)} ({span(found.interval, sign=True)}), p {p_text(decisive.p_holm)}"
        if found
        else str(decisive.reason)
    )
    if decisive.published is not None:
        line += f"; the paper {decisive.published:+.4f}".replace("-", "−")
    return {
        "text": verdict.claim.text,
        "verdict": verdict.verdict,
        "note": verdict.note,
        "holds": verdict.count("holds"),
        "total": len(verdict.parts),
        "decisive": line,
        "parts": [part_cells(analysis, part) for part in verdict.parts],
    }


def answer(analysis: Analysis) -> str:
    """The outcome in a sentence."""
    cells = analysis.study.cells
    measured = sum(cell.measured for cell in cells)
    state = "" if measured == len(cells) else f" {len(cells) - measured} of {len(cells)} cells missing."
    if not analysis.verdicts:
        return f"The study makes no claims.{state}"
    counts = Counter(verdict.verdict for verdict in analysis.verdicts)
    said = ", ".join(f"{counts[name]} {name}" for name in VERDICTS if counts[name] or name != "not measured")
    one_run = len(analysis.study.seeds) == 1 and counts["not measured"] < len(analysis.verdicts)
    run = " One seed: the verdicts are about this run only." if one_run else ""
    return f"Of {len(analysis.verdicts)} published claims: {said}.{run}{state}"


def method(analysis: Analysis) -> list[str]:
    """How the numbers are made, a sentence each."""
    level = decision_level(analysis.verdicts)
    family = len({part.part for verdict in analysis.verdicts for part in verdict.parts if part.comparison})
    lines = [
        "A prompt's value is its mean over images and seeds; prompts are the units of every interval and test. "
        "Unscored samples are excluded, pair by pair, and counted; they are never 0.",
        f"Intervals: percentile bootstrap over prompts, {RESAMPLES:,} resamples, 95%. "
        f"p: two-sided sign-flip permutation of the paired differences, {FLIPS:,} flips, exact with few nonzero differences.",
        f"The {family} measured parts of all claims are one family (Holm). A claim is reproduced if every part is significant, "
        "contradicted if any part is significantly reversed, else undecided.",
        "Intervals hold for new prompts, not for new training seeds: one seed decides about this run only.",
    ]
    if level is not None:
        lines.append(
            f"Prompts to decide: how many prompts would show an undecided part's effect with power 0.8 at the two-sided level {level:.2g} "
            "(what Holm asks of the next part), if effect and spread are as seen here."
        )
    return lines


def _svg_source(file: Path) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(file.read_bytes()).decode()}"
