"""Reads a study folder into plain dataclasses: the plan, the states of cells, and the rows of stages.

Input is what `docs/architecture.md` states. A cell counts as measured when its last stage is complete.
Missing rows are None, never an empty list, so that nothing missing can be averaged. A category whose
measured cells differ in its metric becomes several columns, one per metric, so that unequal numbers are
never compared.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from harness.analysis.columns import column_names
from harness.analysis.measures import described_as, measure_rows
from harness.analysis.stage_results import StageResult, complete_folders, read_stage, state_of
from harness.chain_rows import ChainRow, read_chains
from harness.files import read_rows
from harness.plan_rows import PlanRow
from harness.samples import SampleFolder, SampleRow, ScoreRow
from harness.stages.status import read_status
from harness.types import Metric
from harness.votes import VoteRow

Row = TypeVar("Row", SampleRow, ScoreRow)


@dataclass(frozen=True, kw_only=True)
class MetricFacts:
    """The entry of a category in metric.json.

    `mirror` is as `harness.analysis.mirror.verdict` returns it, None where mirrored images were not scored.
    """

    metric: Metric
    notes: tuple[str, ...] = ()
    mirror: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class CellResult:
    """One arm x seed. `chains`, `samples`, `scores` and `plans` are None unless their stages are complete.

    The `image` of a sample is its full path. `metrics` holds the categories and measures that metric.json
    describes. `measures` are the measures of `plans`, each the category of its rows.
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
    plans: tuple[PlanRow, ...] | None = None
    chains: tuple[ChainRow, ...] | None = None
    measures: tuple[ScoreRow, ...] | None = None

    @property
    def measured(self) -> bool:
        return self.stages[-1].complete

    @property
    def rows(self) -> tuple[ScoreRow, ...]:
        """The scores and the measures."""
        return (*(self.scores or ()), *(self.measures or ()))


@dataclass(frozen=True, kw_only=True)
class PairResult:
    """The votes on the chains of two arms with one seed; None unless complete.

    `cost` is the content of cost.json, judge -> the cost of its questions: `estimate` and `spent`.
    """

    id: str
    arm: str
    x: str
    y: str
    seed: int
    state: str
    error: str | None
    stages: tuple[StageResult, ...]
    votes: tuple[VoteRow, ...] | None
    cost: Mapping[str, Any] = field(default_factory=dict)
    overrides: tuple[str, ...] = ()

    @property
    def measured(self) -> bool:
        return self.stages[-1].complete


@dataclass(frozen=True, kw_only=True)
class StudyResult:
    """A study as planned, with the results of its cells.

    `categories` are the columns of its tables, in the order of the study, else of the scores; `measures` are
    those of its plans. `split` holds the categories and measures that became several columns, category ->
    columns. Samples, scores, measures and metrics of the cells name the column; plan and published table name
    the category.
    """

    name: str
    study: Mapping[str, Any]
    command: str
    created: str
    cells: tuple[CellResult, ...]
    categories: tuple[str, ...]
    split: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    pairs: tuple[PairResult, ...] = ()
    measures: tuple[str, ...] = ()

    @property
    def arms(self) -> tuple[str, ...]:
        """In the order of the plan."""
        return tuple(dict.fromkeys(cell.arm for cell in self.cells))

    @property
    def planned(self) -> tuple[CellResult | PairResult, ...]:
        """All cells of the plan: those of the arms, then those of the pairs."""
        return *self.cells, *self.pairs

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(dict.fromkeys(cell.seed for cell in self.cells))

    @property
    def published(self) -> dict[str, dict[str, float]]:
        """The published table: arm -> category -> value, without its gaps."""
        table = self.study.get("published") or {}
        rows = {}
        for arm, values in (table.get("rows") or {}).items():
            pairs = zip(table["columns"], values, strict=True)
            rows[arm] = {column: float(value) for column, value in pairs if value is not None}
        return rows

    def cells_of(self, arm: str) -> list[CellResult]:
        return [cell for cell in self.cells if cell.arm == arm]

    def category_of(self, column: str) -> str:
        """Return the category of a column: the column itself unless the category was split."""
        for category, columns in self.split.items():
            if column in columns:
                return category
        return column


def read_study(study_folder: Path) -> StudyResult:
    """Read `outputs/studies/<study>`.

    Raises:
        ValueError: there is no plan.json (names the studies that have one), or a file is damaged.
    """
    if not (study_folder / "plan.json").is_file():
        raise ValueError(_no_study(study_folder))
    plan = read_plan(study_folder)
    outputs = study_folder.parent.parent
    cells, pairs = [], []
    for planned in plan["cells"]:
        folder = study_folder / "cells" / planned["id"]
        if planned.get("pair"):
            pairs.append(_read_pair(planned, folder, outputs))
        else:
            cells.append(_read_cell(planned, folder, outputs))
    categories = plan["study"].get("categories") or _scored_categories(cells)
    measures = plan["study"].get("measures") or ()
    columns = {category: _columns(category, cells) for category in (*categories, *measures)}
    split = {}
    for category, column_by_cell in columns.items():
        distinct = tuple(dict.fromkeys(column_by_cell.values()))
        if len(distinct) > 1:
            split[category] = distinct
    renamed = []
    for cell in cells:
        names = {category: columns[category].get(cell.id, category) for category in split}
        renamed.append(_with_columns(cell, names))
    return StudyResult(
        name=str(plan["study"]["name"]),
        study=plan["study"],
        command=str(plan["command"]),
        created=str(plan["created"]),
        cells=tuple(renamed),
        categories=_split(categories, split),
        split=split,
        pairs=tuple(pairs),
        measures=_split(measures, split),
    )


def _split(categories: Iterable[str], split: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Return the columns of the categories."""
    columns: list[str] = []
    for category in categories:
        columns += split.get(category, (category,))
    return tuple(columns)


def _no_study(study_folder: Path) -> str:
    known = sorted(file.parent.name for file in study_folder.parent.glob("*/plan.json"))
    if known:
        remedy = f"known: {', '.join(known)}"
    else:
        remedy = f"none was run yet: python -m harness.sweep ablations={study_folder.name} -m"
    return f"no study {study_folder.name!r} under {study_folder.parent}; {remedy}"


def _scored_categories(cells: Iterable[CellResult]) -> list[str]:
    """Return the categories of all scores in the order of their first score."""
    categories: dict[str, None] = {}
    for cell in cells:
        categories |= dict.fromkeys(row.category for row in cell.scores or ())
    return list(categories)


def _columns(category: str, cells: Iterable[CellResult]) -> dict[str, str]:
    """Return cell id -> the column of its scores of a category, for the cells that have such scores."""
    ids, metrics = [], []
    for cell in cells:
        if any(row.category == category for row in cell.rows):
            ids.append(cell.id)
            facts = cell.metrics.get(described_as(category))
            metrics.append(facts.metric if facts else Metric(name=""))
    return dict(zip(ids, column_names(category, metrics), strict=True))


def _with_columns(cell: CellResult, columns: Mapping[str, str]) -> CellResult:
    """Return the cell with its categories renamed to columns."""
    if not columns:
        return cell

    def renamed(row: Row) -> Row:
        return replace(row, category=columns.get(row.category, row.category))

    return replace(
        cell,
        samples=cell.samples and tuple(map(renamed, cell.samples)),
        scores=cell.scores and tuple(map(renamed, cell.scores)),
        measures=cell.measures and tuple(map(renamed, cell.measures)),
        metrics={columns.get(category, category): facts for category, facts in cell.metrics.items()},
    )


def read_plan(study_folder: Path) -> dict[str, Any]:
    """Return the content of plan.json.

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
        f"{file} is damaged ({reason}): run the sweep's command again, which rewrites it; no result is lost"
    )


def _read_cell(planned: Mapping[str, Any], folder: Path, outputs: Path) -> CellResult:
    status = read_status(folder)
    stages = tuple(read_stage(stage, outputs) for stage in planned["stages"])
    folders = complete_folders(planned, stages, outputs)
    chains, samples, scores, plans = map(folders.get, ("chains", "samples", "scores", "plans"))
    plan_rows = tuple(map(PlanRow.from_json, read_rows(plans / "plans.jsonl"))) if plans else None
    return CellResult(
        id=planned["id"],
        arm=planned["arm"],
        seed=int(planned["seed"]),
        overrides=tuple(planned["overrides"]),
        state=state_of(folder, status, complete=stages[-1].complete),
        error=status.error,
        stages=stages,
        samples=_read_samples(samples) if samples else None,
        scores=_read_scores(scores) if scores else None,
        metrics={
            **(_read_metrics(scores) if scores else {}),
            **(_read_metrics(plans) if plans else {}),
        },
        plans=plan_rows,
        chains=tuple(read_chains(chains)) if chains else None,
        measures=None if plan_rows is None else measure_rows(plan_rows),
    )


def _read_pair(planned: Mapping[str, Any], folder: Path, outputs: Path) -> PairResult:
    status = read_status(folder)
    stages = tuple(read_stage(stage, outputs) for stage in planned["stages"])
    votes = complete_folders(planned, stages, outputs).get("votes")
    x, y = planned["pair"]
    return PairResult(
        id=planned["id"],
        arm=planned["arm"],
        x=x,
        y=y,
        seed=int(planned["seed"]),
        state=state_of(folder, status, complete=stages[-1].complete),
        error=status.error,
        stages=stages,
        votes=tuple(map(VoteRow.from_json, read_rows(votes / "votes.jsonl"))) if votes else None,
        cost=json.loads((votes / "cost.json").read_text(encoding="utf-8")) if votes else {},
    )


def _read_samples(folder: Path) -> tuple[SampleRow, ...]:
    return tuple(replace(row, image=str(folder / row.image)) for row in SampleFolder(folder).rows())


def _read_scores(folder: Path) -> tuple[ScoreRow, ...]:
    return tuple(map(ScoreRow.from_json, read_rows(folder / "scores.jsonl")))


def _read_metrics(folder: Path) -> dict[str, MetricFacts]:
    file = folder / "metric.json"
    if not file.is_file():
        return {}
    try:
        metrics = {}
        for category, entry in json.loads(file.read_text(encoding="utf-8")).items():
            if any(entry.values()):
                metrics[category] = _facts(entry)
        return metrics
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{file} is damaged ({error!r}). Delete the folder {folder} and run the sweep's command again to"
            " make it again"
        ) from error


def _facts(entry: Mapping[str, Any]) -> MetricFacts:
    metric = Metric(name=entry["name"], labels=tuple(entry["labels"]))
    return MetricFacts(metric=metric, notes=tuple(entry["notes"]), mirror=entry["mirror"])
