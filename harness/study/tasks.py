"""What is to be run, in which order: shared stages once and first, then the cells."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.study.cell import missing, with_inputs
from harness.study.planning import Study
from harness.types import Stage


@dataclass(frozen=True, kw_only=True)
class Task:
    """One job: the stage it is to make, the folder with its status and logs, and the tasks (by name) it waits for."""

    name: str
    folder: Path
    stage: Stage
    needs: tuple[str, ...] = ()
    shared: bool = False


def tasks_of(study: Study) -> list[Task]:
    """A task for every cell that is not complete and before them one for every missing stage that several cells need.

    A shared stage which only leads to another one of the same cells is left to that one's job.
    """
    needed = {cell.id: missing(cell.stages[-1], study.store) for cell in study.cells}
    shared = _shared(list(needed.values()))
    tasks = []
    for found, stage in shared.items():
        name = f"{stage.name}-{found}"
        needs = _names(
            {
                other: shared[other]
                for other in missing(stage, study.store)
                if other in shared and other != found
            }
        )
        tasks.append(
            Task(name=name, folder=study.folder / "shared" / name, stage=stage, needs=needs, shared=True)
        )
    for cell in study.cells:
        if stages := needed[cell.id]:
            needs = _names({found: stage for found, stage in stages.items() if found in shared})
            tasks.append(Task(name=cell.id, folder=study.folder_of(cell), stage=cell.stages[-1], needs=needs))
    return tasks


def _shared(needed: Sequence[Mapping[str, Stage]]) -> dict[str, Stage]:
    """Key -> stage for those that several of the given sets hold, without those that only lead to another of them."""
    users: dict[str, set[int]] = defaultdict(set)
    stages: dict[str, Stage] = {}
    for number, found in enumerate(needed):
        stages |= found
        for name in found:
            users[name].add(number)
    shared = {name: stage for name, stage in stages.items() if len(users[name]) > 1}
    leads_on = {
        source
        for name, stage in shared.items()
        for source in with_inputs(stage.inputs.values())
        if users[source] == users[name]
    }
    return {name: stage for name, stage in shared.items() if name not in leads_on}


def _names(stages: Mapping[str, Stage]) -> tuple[str, ...]:
    return tuple(f"{stage.name}-{name}" for name, stage in stages.items())
