"""Scores by category: the mean over images, how sure it is, what it is a score of, and what could not be scored and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from harness.analysis.statistics import clustered_error
from harness.report.table import Shown, Table

REASONS_SHOWN = 5
ABOUT = (
    "A score is the mean over the images that were scored, ± its standard error, clustered by prompt. Numbers whose metric or labels"
    " differ are not to be compared."
)


@dataclass(frozen=True, kw_only=True)
class Summary:
    """A category: `mean` over `images` images of `prompts` prompts, None where none was scored; `unscored` counts reasons.

    `standard_error` is clustered by prompt, None with fewer than two prompts. `metric`, `labels`, `notes` and `mirror`
    are those of `metric.json`.
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


def summarise(rows: Sequence[Mapping[str, Any]], metrics: Mapping[str, Mapping[str, Any]]) -> list[Summary]:
    """The categories in the order of the rows, which are those of `scores.jsonl`; `metrics` is what `metric.json` says."""
    categories: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        categories.setdefault(row["category"], []).append(row)
    return [_summary(category, own, metrics.get(category, {})) for category, own in categories.items()]


def _summary(category: str, rows: Sequence[Mapping[str, Any]], metric: Mapping[str, Any]) -> Summary:
    values = [row["value"] for row in rows if row["value"] is not None]
    prompts = [row["prompt_id"] for row in rows if row["value"] is not None]
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
        unscored=dict(Counter(row["unscored"] for row in rows if row["value"] is None).most_common()),
    )


def table(summaries: Sequence[Summary]) -> Table:
    """One row a category; the column of the mirror check only where it was made."""
    checked = any(one.mirror for one in summaries)
    header = (
        "category",
        "score",
        "±",
        "images",
        "prompts",
        "unscored",
        *(["mirrored"] if checked else []),
        "metric",
    )
    fields = (
        "category",
        "metric",
        "labels",
        "score",
        "standard_error",
        "images",
        "prompts",
        "unscored",
        "mirror",
        "notes",
    )
    return Table(
        name="summary",
        title="Scores",
        note=ABOUT,
        header=header,
        rows=tuple(tuple(Shown(text) for text in _cells(one, checked=checked)) for one in summaries),
        fields=fields,
        records=tuple(
            (
                *(
                    one.category,
                    one.metric,
                    "; ".join(one.labels),
                    one.mean,
                    one.standard_error,
                    one.images,
                    one.prompts,
                ),
                *(
                    sum(one.unscored.values()),
                    one.mirror["verdict"] if one.mirror else None,
                    "; ".join(one.notes),
                ),
            )
            for one in summaries
        ),
    )


def _cells(one: Summary, *, checked: bool) -> list[str]:
    score = "unscored" if one.mean is None else f"{one.mean:.4f}"
    error = "" if one.standard_error is None else f"{one.standard_error:.4f}"
    counts = [str(one.images), str(one.prompts), str(sum(one.unscored.values()))]
    how = ", ".join(filter(None, [one.metric, *one.labels]))
    return [one.category, score, error, *counts, *([_mirrored(one.mirror)] if checked else []), how]


def _mirrored(found: Mapping[str, Any] | None) -> str:
    return f"{found['verdict']}: {found['score']:.2f} to {found['mirrored']:.2f}" if found else ""


def remarks(summaries: Sequence[Summary]) -> list[str]:
    """Everything a table of these scores must say beneath it, one line each."""
    concerned: dict[str, list[str]] = {}
    for one in summaries:
        for text in one.notes:
            concerned.setdefault(text, []).append(one.category)
    lines = [
        text if len(own) == len(summaries) else f"{', '.join(own)}: {text}" for text, own in concerned.items()
    ]
    for one in summaries:
        reasons = list(one.unscored.items())
        lines += [f"{one.category}: {count} unscored: {reason}" for reason, count in reasons[:REASONS_SHOWN]]
        if len(reasons) > REASONS_SHOWN:
            lines.append(
                f"{one.category}: {sum(count for _, count in reasons[REASONS_SHOWN:])} unscored for other reasons"
            )
    return lines
