"""What the scores of a report's columns are: metrics, their labels and notes, and whether they see left and right."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.analysis import mirror
from harness.analysis.analysis import Analysis
from harness.analysis.results import CellResult, MetricFacts
from harness.report.table import Shown, Table, Value
from harness.types import Metric

SPLIT = (
    "Its scores are of unequal metrics: they are not compared with each other, the paper's numbers stand beside none of them, "
    "and what is claimed of it is not measured."
)
_MIRROR = ("verdict", "score", "mirrored", "drop", "low", "high", "images", "prompts")


@dataclass(frozen=True)
class Column:
    """A column's heading and what is to be said of it."""

    heading: str
    text: str


def legend(analysis: Analysis, columns: Sequence[str] | None = None) -> str:
    """One line on the metrics of all columns, or of some; empty where nothing is said of them."""
    alike: dict[str, list[str]] = {}
    for column in analysis.categories if columns is None else columns:
        if (metric := _metric(analysis, column)) and (text := _metric_text(metric)):
            alike.setdefault(text, []).append(analysis.heading(column))
    return "; ".join(f"{', '.join(names)}: {text}" for text, names in alike.items())


def described_columns(analysis: Analysis) -> list[Column]:
    """Every column that something is said of, then why a category has several."""
    columns = [
        Column(analysis.heading(column), text)
        for column in analysis.categories
        if (text := _described(analysis, column))
    ]
    return columns + [
        Column(category, f"{len(parts)} columns. {SPLIT}") for category, parts in analysis.study.split.items()
    ]


def metrics_table(analysis: Analysis) -> Table | None:
    """The metric of every column in every cell; None where nothing is said of any."""
    found = [
        (column, cell, facts) for column in analysis.categories for cell, facts in _facts(analysis, column)
    ]
    if not found:
        return None
    records = tuple(
        (column, analysis.study.category_of(column), cell.arm, cell.seed, *_record(facts))
        for column, cell, facts in found
    )
    fields = (
        "column",
        "category",
        "arm",
        "seed",
        "metric",
        "labels",
        "notes",
        "mirror_verdict",
        *_MIRROR[1:],
    )
    return Table(
        name="metrics",
        title="The metrics of the columns",
        note="Score, mirrored and drop are of the images that were mirrored.",
        header=tuple(name.replace("_", " ") for name in fields),
        rows=tuple(
            tuple(Shown(_number(value), tone="" if place else "name") for place, value in enumerate(record))
            for record in records
        ),
        fields=fields,
        records=records,
    )


def _record(facts: MetricFacts) -> tuple[Value, ...]:
    found = facts.mirror or {}
    return facts.metric.name, "; ".join(facts.metric.labels), "; ".join(facts.notes), *map(found.get, _MIRROR)


def _facts(analysis: Analysis, column: str) -> list[tuple[CellResult, MetricFacts]]:
    return [(cell, cell.metrics[column]) for cell in analysis.scored_cells(column) if column in cell.metrics]


def _metric(analysis: Analysis, column: str) -> Metric | None:
    """The one of all its cells."""
    return next((facts.metric for _, facts in _facts(analysis, column)), None)


def _metric_text(metric: Metric) -> str:
    labels = ", ".join(metric.labels)
    return f"{metric.name} ({labels})" if metric.name and labels else metric.name or labels


def _described(analysis: Analysis, column: str) -> str:
    metric, cells = _metric(analysis, column), analysis.scored_cells(column)
    split = analysis.study.category_of(column) != column
    parts = [
        _metric_text(metric) if metric else "",
        f"scores of {_names(analysis, cells)}" if split else "",
        *[
            note if len(noting) == len(cells) else f"{note} ({_names(analysis, noting)})"
            for note, noting in _notes(analysis, column).items()
        ],
        *_mirrored(analysis, column),
    ]
    return "; ".join(filter(None, parts))


def _notes(analysis: Analysis, column: str) -> dict[str, list[CellResult]]:
    """Note -> the cells that have it, without what the mirror check says anyway."""
    noted: dict[str, list[CellResult]] = {}
    for cell, facts in _facts(analysis, column):
        for note in facts.notes:
            if note != mirror.note(dict(facts.mirror) if facts.mirror else None):
                noted.setdefault(note, []).append(cell)
    return noted


def _mirrored(analysis: Analysis, column: str) -> list[str]:
    """What the mirror check found, with the numbers of every cell whose scores are blind."""
    cells: dict[str, list[CellResult]] = {}
    lines = []
    for cell, facts in _facts(analysis, column):
        if found := facts.mirror:
            cells.setdefault(found["verdict"], []).append(cell)
            if found["verdict"] == mirror.BLIND:
                lines.append(
                    f"blind to left and right in {_names(analysis, [cell])}: {_mirror_numbers(found)}"
                )
    verdicts = ((mirror.FALLS, "falls when mirrored in"), (mirror.CANNOT_TELL, "mirroring cannot tell in"))
    return lines + [
        f"{text} {_names(analysis, cells[verdict])}" for verdict, text in verdicts if verdict in cells
    ]


def _mirror_numbers(found: Mapping[str, Any]) -> str:
    score, mirrored, drop, low, high = (
        _number(found[name]) for name in ("score", "mirrored", "drop", "low", "high")
    )
    return f"{score}, mirrored {mirrored}, drop {drop} ({low} to {high}), {found['images']} images of {found['prompts']} prompts"


def _names(analysis: Analysis, cells: Iterable[CellResult]) -> str:
    """The cells by their arms, with their seeds where those are not all that were measured."""
    seeds: dict[str, list[int]] = {}
    for cell in cells:
        seeds.setdefault(cell.arm, []).append(cell.seed)
    return ", ".join(
        arm if len(own) == len(analysis.measured_cells(arm)) else f"{arm} seed {' and '.join(map(str, own))}"
        for arm, own in seeds.items()
    )


def _number(value: Value) -> str:
    return (
        "–" if value is None else f"{value:.3f}".replace("-", "−") if isinstance(value, float) else str(value)
    )
