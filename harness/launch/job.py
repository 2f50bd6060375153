"""The function that runs inside a job, and `stages.json`, which holds the stages of the job as planned."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from submitit.helpers import TorchDistributedEnvironment

from harness import processes, secrets
from harness.files import write_text
from harness.launch import requeue
from harness.stages import ranks, stop
from harness.stages.keys import differences, facts, key
from harness.stages.process_group import Place, reachable
from harness.stages.status import StatusWriter
from harness.stages.store import StageStore, describe
from harness.study.cell import run, with_inputs
from harness.types import Stage

WATCH_S = 1.0
END_S = 2.0  # for what a stopped process still writes
NAMED_DIFFERENCES = 3


def write_spec(folder: Path, root: Path, stage: Stage) -> None:
    """Writes `stages.json`: the root folder, the job's stage and its inputs, with the facts of their keys."""
    folder.mkdir(parents=True, exist_ok=True)
    stages = [{**describe(source), "facts": facts(source)} for source in with_inputs([stage]).values()]
    write_text(folder / "stages.json", json.dumps({"root": str(root.resolve()), "stages": stages}))


def read_spec(folder: Path) -> tuple[Path, Stage]:
    """Reads `stages.json`: the root folder of the stages, and the stage to make.

    Raises:
        ValueError: a source file, an external file or a setting differs from the plan. The message names it.
    """
    spec = json.loads((folder / "stages.json").read_text(encoding="utf-8"))
    stage_by_key: dict[str, Stage] = {}
    for planned in spec["stages"]:
        stage = Stage(
            name=planned["name"],
            program=planned["program"],
            settings=planned["settings"],
            inputs={name: stage_by_key[input_key] for name, input_key in planned["inputs"].items()},
            external=tuple(planned["external"]),
            parallel=planned["parallel"],
            halves=planned["halves"],
        )
        if key(stage) != planned["key"]:
            raise ValueError(_changed(stage, planned.get("facts")))
        stage_by_key[planned["key"]] = stage
    return Path(spec["root"]), stage_by_key[spec["stages"][-1]["key"]]


def _changed(stage: Stage, planned: Mapping[str, Any] | None) -> str:
    """The message for a stage whose key is not the planned one."""
    if planned is None:
        named = ["another version of the harness planned it"]
    else:
        named = differences(planned, facts(stage), stage.external)
    more = len(named) - NAMED_DIFFERENCES
    if more > 0:
        named = [*named[:NAMED_DIFFERENCES], f"and {more} more"]
    return (
        f"the stage {stage.name} has changed since the study was planned: {', '.join(named)}. "
        "Run the same command again to plan the study with the files as they are now"
    )


class Job:
    """The function that submitit calls in every rank. A requeued job resumes from the disk.

    Rank 0 makes the stage of the task, and the other ranks make the calls that rank 0 publishes. A job that
    does not complete its stage ends with an exit code other than 0.

    Args:
        sweep: id of a process of this machine; the job ends when that process does. None on a cluster.
        processes: how many processes run a stage together, where Slurm starts only one.
        helping: all but one of them are idle cores that help where this changes no bit.
        requeues: how often the job is queued again without progress.
    """

    def __init__(
        self, *, sweep: int | None, processes: int = 1, helping: bool = False, requeues: int = 20
    ) -> None:
        self.sweep, self.processes, self.helping, self.requeues = sweep, processes, helping, requeues

    def __call__(self, folders: Sequence[str]) -> bool:
        """Makes the task of one of the folders: that of this element of a job array, or the first.

        Raises:
            SystemExit: the stage is not complete. The status says why.
        """
        stop.install()
        place = _place()
        if place is not None and place.rank > 0:
            ranks.follow(place)
        if self.sweep is not None:
            threading.Thread(target=_end_with, args=(self.sweep, os.getppid()), daemon=True).start()
        folder = Path(folders[int(os.environ.get("SLURM_ARRAY_TASK_ID", 0))])
        with secrets.masked_output(), StatusWriter(folder) as status:
            if not self._make(folder, status, place):
                raise SystemExit(1)
        return True

    def _make(self, folder: Path, status: StatusWriter, place: Place | None) -> bool:
        """Makes the task's stage with all ranks. Returns whether it is complete."""
        try:
            root, stage = read_spec(folder)
            with closing(ranks.Ranks(self.processes, place, helping=self.helping)) as team:
                team.last_words = partial(status.end, "failed")
                return run(stage, StageStore(root, ranks=team), status)
        except stop.Stopped as stopped:
            requeue.end(folder, status, stopped.signal, self.requeues)
            _end_soon()
        except (ValueError, RuntimeError) as error:
            print(f"error: {error}", file=sys.stderr)
            status.end("failed", error=str(error))
        return False


def _place() -> Place | None:
    """The place of this process where something else than rank 0 starts the ranks; None where there is none.

    torch.distributed's variables count, then those of Slurm. A MASTER_ADDR of the site counts for both.
    """
    place = Place.of_environment()
    if place is None and int(os.environ.get("SLURM_NTASKS", 1)) > 1:
        of_slurm = TorchDistributedEnvironment()
        place = Place(
            rank=of_slurm.rank,
            world=of_slurm.world_size,
            local_rank=of_slurm.local_rank,
            local_world=of_slurm.local_world_size,
            master=os.environ.get("MASTER_ADDR") or reachable(of_slurm.master_addr),
            port=of_slurm.master_port,
        )
    return place


def _end_soon() -> None:
    """Ends this process in a moment, should threads that wait for a server keep it from ending."""
    threads = [thread for thread in threading.enumerate() if not thread.daemon]
    if len(threads) > 1:
        threading.Thread(target=_end_after, args=(END_S,), daemon=True).start()


def _end_after(seconds: float) -> None:
    time.sleep(seconds)
    os._exit(1)


def _end_with(sweep: int, parent: int) -> None:
    """Ends this process when the sweep or submitit's controller is gone. The next sweep resumes the work."""
    while processes.is_alive(sweep) and os.getppid() == parent:
        time.sleep(WATCH_S)
    os._exit(1)
