"""Scores by category: the mean over images with its error, the metric, and the unscored images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from harness.analysis.statistics import clustered_error
from harness.report.table import Shown, Table, Value
from harness.samples import ScoreRow

REASONS_SHOWN = 5
ABOUT = (
    "A score is the mean over the images that were scored, ± its standard error, clustered by prompt. Numbers"
    " whose metric or labels differ are not to be compared."
)


@dataclass(frozen=True, kw_only=True)
class Summary:
    """The scores of a category: `mean` over `images` images of `prompts` prompts, None where none was
    scored.

    `standard_error` is clustered by prompt, None with fewer than two prompts. `unscored` counts images by
    reason. `metric`, `labels`, `notes` and `mirror` come from `metric.json`.
    """

    category: str
    metric: str
    labels: Sequence[str]
    notes: Sequence[str]
    mirror: Mapping[str, Any] | None
    mean: float | None
    standard_error: float | None
    images: int
    prompts: int
    unscored: Mapping[str, int]


def summarize(rows: Sequence[ScoreRow], metrics: Mapping[str, Mapping[str, Any]]) -> list[Summary]:
    """Return one summary per category, in the order of the rows. `metrics` comes from `metric.json`."""
    by_category: dict[str, list[ScoreRow]] = {}
    for row in rows:
        by_category.setdefault(row.category, []).append(row)
    return [_summary(category, rows, metrics.get(category, {})) for category, rows in by_category.items()]


def _summary(category: str, rows: Sequence[ScoreRow], metric: Mapping[str, Any]) -> Summary:
    values = [row.value for row in rows if row.value is not None]
    prompts = [row.prompt_id for row in rows if row.value is not None]
    reasons = Counter(str(row.unscored) for row in rows if row.value is None)
    return Summary(
        category=category,
        metric=metric.get("name", ""),
        labels=metric.get("labels", ()),
        notes=metric.get("notes", ()),
        mirror=metric.get("mirror"),
        mean=fmean(values) if values else None,
        standard_error=clustered_error(values, prompts),
        images=len(values),
        prompts=len(set(prompts)),
        unscored=dict(reasons.most_common()),
    )


def table(summaries: Sequence[Summary]) -> Table:
    """Return one row per category, with the column of the mirror check only where it was made."""
    mirror_checked = any(summary.mirror for summary in summaries)
    mirrored = ("mirrored",) if mirror_checked else ()
    return Table(
        name="summary",
        title="Scores",
        note=ABOUT,
        header=("category", "score", "±", "images", "prompts", "unscored", *mirrored, "metric"),
        rows=tuple(_row(summary, mirror_checked=mirror_checked) for summary in summaries),
        fields=(
            "category", "metric", "labels", "score", "standard_error",
            "images", "prompts", "unscored", "mirror", "notes",
        ),
        records=tuple(_record(summary) for summary in summaries),
    )  # fmt: skip


def _row(summary: Summary, *, mirror_checked: bool) -> tuple[Shown, ...]:
    texts = [
        summary.category,
        "unscored" if summary.mean is None else f"{summary.mean:.4f}",
        "" if summary.standard_error is None else f"{summary.standard_error:.4f}",
        str(summary.images),
        str(summary.prompts),
        str(sum(summary.unscored.values())),
        *([_mirror_text(summary.mirror)] if mirror_checked else []),
        ", ".join(filter(None, [summary.metric, *summary.labels])),
    ]
    return tuple(map(Shown, texts))


def _record(summary: Summary) -> tuple[Value, ...]:
    return (
        summary.category,
        summary.metric,
        "; ".join(summary.labels),
        summary.mean,
        summary.standard_error,
        summary.images,
        summary.prompts,
        sum(summary.unscored.values()),
        summary.mirror["verdict"] if summary.mirror else None,
        "; ".join(summary.notes),
    )


def _mirror_text(check: Mapping[str, Any] | None) -> str:
    return f"{check['verdict']}: {check['score']:.2f} to {check['mirrored']:.2f}" if check else ""


def remarks(summaries: Sequence[Summary]) -> list[str]:
    """Return the lines that belong below a table of these scores: notes, and reasons for unscored images."""
    categories_by_note: dict[str, list[str]] = {}
    for summary in summaries:
        for note in summary.notes:
            categories_by_note.setdefault(note, []).append(summary.category)
    lines = []
    for note, categories in categories_by_note.items():
        lines.append(note if len(categories) == len(summaries) else f"{', '.join(categories)}: {note}")
    for summary in summaries:
        reasons = list(summary.unscored.items())
        for reason, count in reasons[:REASONS_SHOWN]:
            lines.append(f"{summary.category}: {count} unscored: {reason}")
        others = sum(count for _, count in reasons[REASONS_SHOWN:])
        if others:
            lines.append(f"{summary.category}: {others} unscored for other reasons")
    return lines
