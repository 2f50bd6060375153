"""Where the numbers come from: command, commits, versions, machines and the key of every stage."""

from __future__ import annotations

from typing import Any

from harness.analysis.results import StudyResult


def origin_of(study: StudyResult) -> dict[str, Any]:
    """Plain JSON values; facts that differ between stages are listed once each."""
    records = {stage.key: stage.record for cell in study.cells for stage in cell.stages if stage.complete}
    return {
        "study": study.name,
        "command": study.command,
        "created": study.created,
        "commits": _distinct([_commit(record) for record in records.values()]),
        "versions": _distinct(
            [
                ", ".join(f"{name} {version}" for name, version in record.get("versions", {}).items())
                for record in records.values()
            ]
        ),
        "hardware": _distinct([str(record.get("hardware", "unknown")) for record in records.values()]),
        "cells": [
            {
                "arm": cell.arm,
                "seed": cell.seed,
                "id": cell.id,
                "state": cell.state,
                "overrides": list(cell.overrides),
                "stages": {stage.name: stage.key for stage in cell.stages},
            }
            for cell in study.cells
        ],
    }


def _commit(record: Any) -> str:
    commit = record.get("commit") or "no commit"
    return f"{commit} with local changes" if record.get("dirty") else str(commit)


def _distinct(values: list[str]) -> list[str]:
    return sorted(set(values) - {""})
