"""The columns of a category: only scores of equal metrics share one."""

from __future__ import annotations

from collections.abc import Sequence

from harness.types import Metric


def column_names(category: str, metrics: Sequence[Metric]) -> list[str]:
    """Return the column of each cell's scores of a category.

    All have the category's own name where the metrics are equal, their labels in any order. Otherwise the
    differing name and labels follow in brackets.

    Args:
        category: the name of the category.
        metrics: the metric of each cell; a Metric with the name "" where it is not stated.
    """
    kinds = {_kind(metric): metric for metric in reversed(metrics)}
    if len(kinds) <= 1:
        return [category] * len(metrics)
    common = set.intersection(*[set(metric.labels) for metric in kinds.values()])
    every = set[str]().union(*[metric.labels for metric in kinds.values()])
    without = f"without {', '.join(sorted(every - common))}"
    names_differ = len({metric.name for metric in kinds.values()}) > 1
    columns = []
    for metric in metrics:
        words = [metric.name or "metric not stated"] if names_differ else []
        words += [label for label in kinds[_kind(metric)].labels if label not in common]
        columns.append(f"{category} [{', '.join(words) or without}]")
    return columns


def _kind(metric: Metric) -> tuple[str, frozenset[str]]:
    return metric.name, frozenset(metric.labels)
