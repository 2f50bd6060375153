"""The tasks of a study, in order: shared stages once and first, then the cells."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import starmap
from pathlib import Path

from harness.study.cell import missing, with_inputs
from harness.study.memory import GB, estimate
from harness.study.planning import Study
from harness.types import Stage


@dataclass(frozen=True, kw_only=True)
class Task:
    """One job: the stage it makes, the folder of its status and logs, the names of the tasks it waits for.

    `halves_gb` is the memory of two processes that make its stages with `Stage.halves` together, as far as it
    is known; None where no such stage is missing.
    """

    name: str
    folder: Path
    stage: Stage
    needs: tuple[str, ...] = ()
    shared: bool = False
    halves_gb: float | None = None


def tasks_of(study: Study) -> list[Task]:
    """A task for every stage that several cells need and for every cell that is not complete, in this order.

    A shared stage that only leads to another one for the same cells is left to the job of the other.
    """
    missing_by_cell = {cell.id: missing(cell.stages[-1], study.store) for cell in study.cells}
    shared = _shared(missing_by_cell.values())
    halves_gb = _halves_gb(study, missing_by_cell)
    tasks = []
    for stage_key, stage in shared.items():
        name, stages = _task_name(stage_key, stage), missing(stage, study.store)
        earlier = {source: shared[source] for source in stages if source in shared and source != stage_key}
        tasks.append(
            Task(
                name=name,
                folder=study.folder / "shared" / name,
                stage=stage,
                needs=tuple(starmap(_task_name, earlier.items())),
                shared=True,
                halves_gb=_largest(halves_gb, stages.keys() - with_inputs(earlier.values()).keys()),
            )
        )
    for cell in study.cells:
        if stages := missing_by_cell[cell.id]:
            earlier = {source: shared[source] for source in stages if source in shared}
            tasks.append(
                Task(
                    name=cell.id,
                    folder=study.folder_of(cell),
                    stage=cell.stages[-1],
                    needs=tuple(starmap(_task_name, earlier.items())),
                    halves_gb=_largest(halves_gb, stages.keys() - with_inputs(earlier.values()).keys()),
                )
            )
    return tasks


def _halves_gb(study: Study, missing_by_cell: Mapping[str, Mapping[str, Stage]]) -> dict[str, float]:
    """Key -> memory of two processes in GB, for missing stages with halves; 0 where it is not known."""
    found: dict[str, float] = {}
    for cell in study.cells:
        for stage_key, stage in missing_by_cell[cell.id].items():
            if stage.halves and stage_key not in found:
                each = estimate(stage, cell.config, study.store, processes=2, gpu=False)
                found[stage_key] = 2 * each.peak / GB if each else 0.0
    return found


def _largest(halves_gb: Mapping[str, float], stage_keys: Iterable[str]) -> float | None:
    return max((halves_gb[stage_key] for stage_key in stage_keys if stage_key in halves_gb), default=None)


def _shared(missing_of_cells: Iterable[Mapping[str, Stage]]) -> dict[str, Stage]:
    """Key -> stage for stages that several cells miss, without those that only lead to another one."""
    cells: dict[str, set[int]] = defaultdict(set)
    stages: dict[str, Stage] = {}
    for number, stage_by_key in enumerate(missing_of_cells):
        stages |= stage_by_key
        for stage_key in stage_by_key:
            cells[stage_key].add(number)
    shared = {stage_key: stage for stage_key, stage in stages.items() if len(cells[stage_key]) > 1}
    for stage_key, stage in list(shared.items()):
        for source_key in with_inputs(stage.inputs.values()):
            if cells[source_key] == cells[stage_key]:
                shared.pop(source_key, None)
    return shared


def _task_name(stage_key: str, stage: Stage) -> str:
    return f"{stage.name}-{stage_key}"
