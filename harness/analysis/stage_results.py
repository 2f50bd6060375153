"""The stages of a cell as its folders show them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.files import read_rows
from harness.stages.generations import unfinished_folder
from harness.stages.status import Status, is_silent
from harness.stages.store import read_record


@dataclass(frozen=True, kw_only=True)
class StageResult:
    """A stage of a cell. `record` is its stage.json, empty while incomplete; `metrics` its rows so far."""

    name: str
    key: str
    complete: bool
    record: Mapping[str, Any] = field(default_factory=dict)
    metrics: tuple[Mapping[str, Any], ...] = ()


def read_stage(planned: Mapping[str, Any], outputs: Path) -> StageResult:
    """Return a stage of the plan as it is now."""
    folder = outputs / planned["folder"]
    complete = (folder / "stage.json").is_file()
    here = folder if complete else unfinished_folder(folder)
    return StageResult(
        name=planned["name"],
        key=planned["key"],
        complete=complete,
        record=read_record(folder) if complete else {},
        metrics=tuple(read_rows(here / "metrics.jsonl")),
    )


def complete_folders(
    planned: Mapping[str, Any], stages: Iterable[StageResult], outputs: Path
) -> dict[str, Path]:
    """Return the folders of the complete stages by name; of equal names the last one."""
    both = zip(planned["stages"], stages, strict=True)
    return {stage["name"]: outputs / stage["folder"] for stage, result in both if result.complete}


def state_of(folder: Path, status: Status, *, complete: bool) -> str:
    """Return "done" for a cell whose last stage is complete, "lost" for one that ended without it."""
    if complete:
        return "done"
    return "lost" if status.state == "done" or is_silent(folder, status) else status.state
