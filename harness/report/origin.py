"""Where the numbers come from: command, commits, frozen code, versions, machines, key of every stage."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from harness.analysis.results import CellResult, PairResult, StudyResult


def origin_of(study: StudyResult) -> dict[str, Any]:
    """Return plain JSON values. Facts that differ between stages are listed once each."""
    records: dict[str, Mapping[str, Any]] = {}
    for cell in study.planned:
        records |= {stage.key: stage.record for stage in cell.stages if stage.complete}
    return {
        "study": study.name,
        "command": study.command,
        "created": study.created,
        "commits": _distinct(map(_commit, records.values())),
        "code": _distinct(str(record.get("code") or "") for record in records.values()),
        "versions": _distinct(map(_versions, records.values())),
        "hardware": _distinct(str(record.get("hardware", "unknown")) for record in records.values()),
        "cells": [_cell(cell) for cell in study.planned],
    }


def _cell(cell: CellResult | PairResult) -> dict[str, Any]:
    return {
        "arm": cell.arm,
        "seed": cell.seed,
        "id": cell.id,
        "state": cell.state,
        "overrides": list(cell.overrides),
        "stages": {stage.name: stage.key for stage in cell.stages},
    }


def _commit(record: Mapping[str, Any]) -> str:
    commit, dirty = record.get("commit") or "no commit", record.get("dirty")
    if dirty is None and record.get("commit"):
        return f"{commit}, local changes not known"
    return f"{commit} with local changes" if dirty else str(commit)


def _versions(record: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {version}" for name, version in record.get("versions", {}).items())


def _distinct(values: Iterable[str]) -> list[str]:
    return sorted(set(values) - {""})
