"""The tasks of a study, in order: shared stages once and first, then the cells."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.study.cell import missing, with_inputs
from harness.study.planning import Study
from harness.types import Stage


@dataclass(frozen=True, kw_only=True)
class Task:
    """One job: the stage it makes, the folder of its status and logs, the names of the tasks it waits for.

    `code` is the folder of the frozen code that it runs; None for the code of this process.
    """

    name: str
    folder: Path
    stage: Stage
    needs: tuple[str, ...] = ()
    shared: bool = False
    code: Path | None = None


def tasks_of(study: Study) -> list[Task]:
    """A task for every stage that several cells need and for every cell that is not complete, in this order.

    A shared stage that only leads to another one for the same cells is left to the job of the other.
    """
    missing_by_cell = {cell.id: missing(cell.stages[-1], study.store) for cell in study.cells}
    shared = _shared(missing_by_cell.values())
    tasks = []
    for stage_key, stage in shared.items():
        name = _task_name(stage_key, stage)
        needs = tuple(
            _task_name(source_key, source)
            for source_key, source in missing(stage, study.store).items()
            if source_key in shared and source_key != stage_key
        )
        folder = study.folder / "shared" / name
        tasks.append(Task(name=name, folder=folder, stage=stage, needs=needs, shared=True))
    for cell in study.cells:
        stages = missing_by_cell[cell.id]
        if stages:
            needs = tuple(
                _task_name(stage_key, shared[stage_key]) for stage_key in stages if stage_key in shared
            )
            tasks.append(Task(name=cell.id, folder=study.folder_of(cell), stage=cell.stages[-1], needs=needs))
    return tasks


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
