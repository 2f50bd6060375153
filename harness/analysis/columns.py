"""Which scores of a category may stand in one column: those of equal metrics."""

from __future__ import annotations

from collections.abc import Sequence

from harness.types import Metric


def column_names(category: str, metrics: Sequence[Metric]) -> list[str]:
    """The columns of several cells' scores of a category, by their metrics (with the name "" nothing is said of it).

    All have the category's own name where the metrics are equal, their labels in any order; else what differs follows in brackets.
    """
    kinds = {_kind(metric): metric for metric in reversed(metrics)}
    if len(kinds) <= 1:
        return [category] * len(metrics)
    common = set.intersection(*[set(metric.labels) for metric in kinds.values()])
    differing = sorted({label for metric in kinds.values() for label in metric.labels} - common)
    named = len({metric.name for metric in kinds.values()}) > 1

    def said(metric: Metric) -> str:
        parts = [metric.name or "metric not stated"] * named + [
            label for label in metric.labels if label not in common
        ]
        return ", ".join(parts) or f"without {', '.join(differing)}"

    return [f"{category} [{said(kinds[_kind(metric)])}]" for metric in metrics]


def _kind(metric: Metric) -> tuple[str, frozenset[str]]:
    return metric.name, frozenset(metric.labels)
