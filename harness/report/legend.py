"""The metrics of a report's columns: names, labels and notes, and whether they see left and right."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.analysis import mirror
from harness.analysis.results import CellResult, MetricFacts
from harness.analysis.study import Analysis
from harness.report.table import Shown, Table, Value
from harness.types import Metric

SPLIT = (
    "Its scores are of unequal metrics. They are not compared with each other or with the paper's numbers,"
    " and claims about it are not measured."
)
_MIRROR = ("verdict", "score", "mirrored", "drop", "low", "high", "images", "prompts")


@dataclass(frozen=True)
class Column:
    """A column's heading and the description of its metric."""

    heading: str
    text: str


def legend(analysis: Analysis, columns: Sequence[str] | None = None) -> str:
    """Return one line on the metrics of all columns, or of some. Empty where none is stated."""
    headings: dict[str, list[str]] = {}
    for column in analysis.categories if columns is None else columns:
        text = _metric_text(_metric(analysis, column))
        if text:
            headings.setdefault(text, []).append(analysis.heading(column))
    return "; ".join(f"{', '.join(names)}: {text}" for text, names in headings.items())


def described_columns(analysis: Analysis) -> list[Column]:
    """Return every column that has a description, then the categories that were split."""
    columns = []
    for column in analysis.categories:
        text = _description(analysis, column)
        if text:
            columns.append(Column(analysis.heading(column), text))
    for category, parts in analysis.study.split.items():
        columns.append(Column(category, f"{len(parts)} columns. {SPLIT}"))
    return columns


def metrics_table(analysis: Analysis) -> Table | None:
    """Return the metric of every column in every cell; None where none is stated."""
    records = []
    for column in analysis.columns:
        category = analysis.study.category_of(column)
        for cell, facts in _facts(analysis, column):
            records.append((column, category, cell.arm, cell.seed, *_record(facts)))
    if not records:
        return None
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
        rows=tuple(map(_row, records)),
        fields=fields,
        records=tuple(records),
    )


def _record(facts: MetricFacts) -> tuple[Value, ...]:
    check = facts.mirror or {}
    labels, notes = "; ".join(facts.metric.labels), "; ".join(facts.notes)
    return facts.metric.name, labels, notes, *map(check.get, _MIRROR)


def _row(record: Sequence[Value]) -> tuple[Shown, ...]:
    column, *values = map(_number, record)
    return Shown(column, tone="name"), *map(Shown, values)


def _facts(analysis: Analysis, column: str) -> list[tuple[CellResult, MetricFacts]]:
    return [(cell, cell.metrics[column]) for cell in analysis.scored_cells(column) if column in cell.metrics]


def _metric(analysis: Analysis, column: str) -> Metric | None:
    """Return the metric of a column, which all its cells share."""
    facts = _facts(analysis, column)
    return facts[0][1].metric if facts else None


def _metric_text(metric: Metric | None) -> str:
    if metric is None:
        return ""
    labels = ", ".join(metric.labels)
    return f"{metric.name} ({labels})" if metric.name and labels else metric.name or labels


def _description(analysis: Analysis, column: str) -> str:
    cells = analysis.scored_cells(column)
    texts = [_metric_text(_metric(analysis, column))]
    if analysis.study.category_of(column) != column:
        texts.append(f"scores of {_names(analysis, cells)}")
    for note, noted in _notes(analysis, column).items():
        texts.append(note if len(noted) == len(cells) else f"{note} ({_names(analysis, noted)})")
    texts += _mirror_texts(analysis, column)
    return "; ".join(filter(None, texts))


def _notes(analysis: Analysis, column: str) -> dict[str, list[CellResult]]:
    """Return note -> the cells that have it, without the note of the mirror check."""
    cells: dict[str, list[CellResult]] = {}
    for cell, facts in _facts(analysis, column):
        for note in facts.notes:
            if note != mirror.note(dict(facts.mirror) if facts.mirror else None):
                cells.setdefault(note, []).append(cell)
    return cells


def _mirror_texts(analysis: Analysis, column: str) -> list[str]:
    """Return the results of the mirror check, with the numbers of every cell whose scores are blind."""
    cells: dict[str, list[CellResult]] = {}
    texts = []
    for cell, facts in _facts(analysis, column):
        check = facts.mirror
        if not check:
            continue
        cells.setdefault(check["verdict"], []).append(cell)
        if check["verdict"] == mirror.BLIND:
            name = _names(analysis, [cell])
            texts.append(f"blind to left and right in {name}: {_mirror_numbers(check)}")
    verdicts = ((mirror.FALLS, "falls when mirrored in"), (mirror.CANNOT_TELL, "mirroring cannot tell in"))
    for verdict, text in verdicts:
        if verdict in cells:
            texts.append(f"{text} {_names(analysis, cells[verdict])}")
    return texts


def _mirror_numbers(check: Mapping[str, Any]) -> str:
    numbers = {name: _number(check[name]) for name in _MIRROR}
    return (
        "{score}, mirrored {mirrored}, drop {drop} ({low} to {high}), {images} images of {prompts} prompts"
    ).format(**numbers)


def _names(analysis: Analysis, cells: Iterable[CellResult]) -> str:
    """Return the cells by their arms, with their seeds where other seeds were measured too."""
    seeds: dict[str, list[int]] = {}
    for cell in cells:
        seeds.setdefault(cell.arm, []).append(cell.seed)
    names = []
    for arm, arm_seeds in seeds.items():
        if len(arm_seeds) == len(analysis.measured_cells(arm)):
            names.append(arm)
        else:
            names.append(f"{arm} seed {' and '.join(map(str, arm_seeds))}")
    return ", ".join(names)


def _number(value: Value) -> str:
    if value is None:
        return "–"
    return f"{value:.3f}".replace("-", "−") if isinstance(value, float) else str(value)
