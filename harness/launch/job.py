"""The function that runs inside a job, and `stages.json`, which holds the stages of the job as planned."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from submitit.helpers import Checkpointable

from harness import processes, secrets
from harness.files import write_text
from harness.launch import requeue
from harness.stages.keys import differences, facts, key
from harness.stages.status import StatusWriter
from harness.stages.store import StageStore, describe
from harness.study.cell import run, with_inputs
from harness.types import Stage

WATCH_S = 1.0
NAMED_DIFFERENCES = 3


def write_spec(folder: Path, root: Path, stage: Stage) -> None:
    """Writes `stages.json`: the root folder, the job's stage and its inputs, with the facts of their keys."""
    folder.mkdir(parents=True, exist_ok=True)
    stages = [{**describe(source), "facts": facts(source)} for source in with_inputs([stage]).values()]
    write_text(folder / "stages.json", json.dumps({"root": str(root.resolve()), "stages": stages}, indent=1))


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


class Job(Checkpointable):
    """The function that submitit calls. A requeued job has the same arguments and resumes from the disk.

    Args:
        sweep: id of a process of this machine; the job ends when that process does. None on a cluster.
        processes: how many processes run a stage together.
    """

    def __init__(self, *, sweep: int | None, processes: int = 1) -> None:
        self.sweep, self.processes = sweep, processes

    def __call__(self, folder: str) -> bool:
        if self.sweep is not None:
            threading.Thread(target=_end_with, args=(self.sweep, os.getppid()), daemon=True).start()
        else:
            requeue.end_clearly()
        with secrets.masked_output():
            return self._run(Path(folder))

    def _run(self, folder: Path) -> bool:
        try:
            root, stage = read_spec(folder)
            return run(folder, stage, StageStore(root, processes=self.processes))
        except (ValueError, requeue.NotRequeued) as error:
            print(f"error: {error}", file=sys.stderr)
            with StatusWriter(folder) as status:
                status.end("failed", error=str(error))
            return False


def _end_with(sweep: int, parent: int) -> None:
    """Ends this process when the sweep or submitit's controller is gone. The next sweep resumes the work."""
    while processes.is_alive(sweep) and os.getppid() == parent:
        time.sleep(WATCH_S)
    os._exit(1)
