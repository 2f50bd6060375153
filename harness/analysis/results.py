"""Reads a study folder into plain dataclasses: what was planned, what became of it, and the rows it wrote.

Input is what `docs/architecture.md` states. A cell counts as measured when its `scores` stage is complete;
whatever is not there is None, never an empty list, so that nothing missing can be averaged. A category whose
measured cells differ in its metric becomes several, one for each metric, so that unequal numbers never meet.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.analysis.columns import column_names
from harness.files import read_rows
from harness.stages.status import Status, is_silent, read_status
from harness.stages.store import read_record
from harness.types import Metric


@dataclass(frozen=True, kw_only=True)
class SampleRow:
    """A line of samples.jsonl; `image` is the path of its PNG."""

    index: int
    prompt_id: str
    prompt: str
    category: str
    facts: Mapping[str, Any]
    seed: int | None
    chain: str
    faults: tuple[str, ...]
    truncated: bool
    image: Path


@dataclass(frozen=True, kw_only=True)
class ScoreRow:
    """A line of scores.jsonl; `value` None is unscored, and `unscored` says why."""

    index: int
    prompt_id: str
    category: str
    seed: int | None
    value: float | None
    unscored: str | None


@dataclass(frozen=True, kw_only=True)
class MetricFacts:
    """What metric.json says of a category. `mirror` is as `harness.analysis.mirror.verdict` gives it, None where mirrored images were not scored."""

    metric: Metric
    notes: tuple[str, ...] = ()
    mirror: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class StageResult:
    """A stage of a cell. `record` is its stage.json, empty while incomplete; `metrics` its lines so far."""

    name: str
    key: str
    complete: bool
    record: Mapping[str, Any] = field(default_factory=dict)
    metrics: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, kw_only=True)
class CellResult:
    """One arm x seed. `scores` and `samples` are None unless their stages are complete.

    `metrics` are of the categories that something is said of.
    """

    id: str
    arm: str
    seed: int
    overrides: tuple[str, ...]
    state: str
    error: str | None
    stages: tuple[StageResult, ...]
    samples: tuple[SampleRow, ...] | None
    scores: tuple[ScoreRow, ...] | None
    metrics: Mapping[str, MetricFacts] = field(default_factory=dict)

    @property
    def measured(self) -> bool:
        return self.scores is not None


@dataclass(frozen=True, kw_only=True)
class StudyResult:
    """A study as planned, with what its cells have come to.

    `categories` are the columns of its tables, as the study names them, else in the order of the scores. `split` holds those
    that became several, category -> columns: rows, samples and metrics of the cells name the column, plan and published table
    the category.
    """

    name: str
    study: Mapping[str, Any]
    command: str
    created: str
    cells: tuple[CellResult, ...]
    categories: tuple[str, ...]
    split: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def arms(self) -> tuple[str, ...]:
        """In the order of the plan."""
        return tuple(dict.fromkeys(cell.arm for cell in self.cells))

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(dict.fromkeys(cell.seed for cell in self.cells))

    @property
    def published(self) -> dict[str, dict[str, float]]:
        """The published table: arm -> category -> value, without its gaps."""
        table = self.study.get("published") or {}
        return {
            arm: {
                column: float(value)
                for column, value in zip(table["columns"], values, strict=True)
                if value is not None
            }
            for arm, values in (table.get("rows") or {}).items()
        }

    def cells_of(self, arm: str) -> list[CellResult]:
        return [cell for cell in self.cells if cell.arm == arm]

    def category_of(self, column: str) -> str:
        """The category that the column is of: itself unless that was split."""
        return next((category for category, columns in self.split.items() if column in columns), column)


def read_study(study_folder: Path) -> StudyResult:
    """Reads `outputs/studies/<study>`.

    Raises:
        ValueError: No plan.json there (names the studies that have one), or a file that is damaged.
    """
    plan_file = study_folder / "plan.json"
    if not plan_file.is_file():
        known = sorted(file.parent.name for file in study_folder.parent.glob("*/plan.json"))
        raise ValueError(
            f"no study {study_folder.name!r} under {study_folder.parent}; "
            + (
                f"known: {', '.join(known)}"
                if known
                else f"none was run yet: python -m harness.sweep ablations={study_folder.name} -m"
            )
        )
    plan = read_plan(study_folder)
    outputs = study_folder.parent.parent
    cells = [_read_cell(cell, study_folder / "cells" / cell["id"], outputs) for cell in plan["cells"]]
    categories = list(
        plan["study"].get("categories")
        or dict.fromkeys(row.category for cell in cells for row in cell.scores or ())
    )
    columns = {category: _columns(category, cells) for category in categories}
    split = {
        category: tuple(dict.fromkeys(found.values()))
        for category, found in columns.items()
        if len(set(found.values())) > 1
    }
    return StudyResult(
        name=str(plan["study"]["name"]),
        study=plan["study"],
        command=str(plan["command"]),
        created=str(plan["created"]),
        cells=tuple(
            _renamed(cell, {category: columns[category].get(cell.id, category) for category in split})
            for cell in cells
        ),
        categories=tuple(column for category in categories for column in split.get(category, (category,))),
        split=split,
    )


def _columns(category: str, cells: Iterable[CellResult]) -> dict[str, str]:
    """Cell id -> the column of its scores of a category, for the cells that have some."""
    having = [cell for cell in cells if any(row.category == category for row in cell.scores or ())]
    metrics = [
        cell.metrics[category].metric if category in cell.metrics else Metric(name="") for cell in having
    ]
    return dict(zip([cell.id for cell in having], column_names(category, metrics), strict=True))


def _renamed(cell: CellResult, columns: Mapping[str, str]) -> CellResult:
    if not columns:
        return cell
    return replace(
        cell,
        samples=cell.samples
        and tuple(replace(row, category=columns.get(row.category, row.category)) for row in cell.samples),
        scores=cell.scores
        and tuple(replace(row, category=columns.get(row.category, row.category)) for row in cell.scores),
        metrics={columns.get(category, category): facts for category, facts in cell.metrics.items()},
    )


def read_plan(study_folder: Path) -> dict[str, Any]:
    """What plan.json says.

    Raises:
        ValueError: it is damaged.
    """
    file = study_folder / "plan.json"
    try:
        plan: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        if {"study", "command", "created", "cells"} <= plan.keys():
            return plan
        reason = "it is no plan"
    except (ValueError, AttributeError) as error:
        reason = str(error)
    raise ValueError(
        f"{file} is damaged ({reason}): run the sweep's command again, which writes it anew; no result is lost"
    )


def _read_cell(planned: Mapping[str, Any], folder: Path, outputs: Path) -> CellResult:
    status = read_status(folder)
    stages = tuple(_read_stage(stage, outputs) for stage in planned["stages"])
    folders = {stage["name"]: outputs / stage["folder"] for stage in planned["stages"]}
    complete = {stage.name for stage in stages if stage.complete}
    scored = "scores" in complete
    return CellResult(
        id=planned["id"],
        arm=planned["arm"],
        seed=int(planned["seed"]),
        overrides=tuple(planned["overrides"]),
        state=_state(folder, status, scored=scored),
        error=status.error,
        stages=stages,
        samples=_read_samples(folders["samples"]) if "samples" in complete else None,
        scores=_read_scores(folders["scores"]) if scored else None,
        metrics=_read_metrics(folders["scores"]) if scored else {},
    )


def _state(folder: Path, status: Status, *, scored: bool) -> str:
    """A complete `scores` stage is a measured cell whoever made it; done without one, or running without a process, is lost."""
    if scored:
        return "done"
    return "lost" if status.state == "done" or is_silent(folder, status) else status.state


def _read_stage(planned: Mapping[str, Any], outputs: Path) -> StageResult:
    folder = outputs / planned["folder"]
    complete = (folder / "stage.json").is_file()
    here = folder if complete else folder.with_name(folder.name + ".part")
    return StageResult(
        name=planned["name"],
        key=planned["key"],
        complete=complete,
        record=read_record(folder) if complete else {},
        metrics=tuple(read_rows(here / "metrics.jsonl")),
    )


def _read_samples(folder: Path) -> tuple[SampleRow, ...]:
    return tuple(
        SampleRow(
            index=row["index"],
            prompt_id=row["prompt_id"],
            prompt=row["prompt"],
            category=row["category"],
            facts=row["facts"],
            seed=row["seed"],
            chain=row["chain"],
            faults=tuple(row["faults"]),
            truncated=row["truncated"],
            image=folder / row["image"],
        )
        for row in read_rows(folder / "samples.jsonl")
    )


def _read_scores(folder: Path) -> tuple[ScoreRow, ...]:
    return tuple(
        ScoreRow(
            index=row["index"],
            prompt_id=row["prompt_id"],
            category=row["category"],
            seed=row["seed"],
            value=row["value"],
            unscored=row["unscored"],
        )
        for row in read_rows(folder / "scores.jsonl")
    )


def _read_metrics(folder: Path) -> dict[str, MetricFacts]:
    file = folder / "metric.json"
    if not file.is_file():
        return {}
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
        return {category: _facts(entry) for category, entry in said.items() if any(entry.values())}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{file} is damaged ({error!r}): delete the folder {folder} and run the sweep's command again, which makes it anew"
        ) from error


def _facts(entry: Mapping[str, Any]) -> MetricFacts:
    metric = Metric(name=entry["name"], labels=tuple(entry["labels"]))
    return MetricFacts(metric=metric, notes=tuple(entry["notes"]), mirror=entry["mirror"])
