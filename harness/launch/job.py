"""What runs inside a job: the stages of one task, frozen in a file when they were planned."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path

from submitit.helpers import Checkpointable

from harness.files import write_text
from harness.stages import locks
from harness.stages.keys import key
from harness.stages.status import StatusWriter
from harness.stages.store import StageStore, describe
from harness.study.cell import run, with_inputs
from harness.types import Stage

WATCH_S = 1.0


def write_spec(folder: Path, root: Path, stage: Stage) -> None:
    """Freezes what a job is to make: the stage and all it reads, each with its key, and the folder they go to."""
    folder.mkdir(parents=True, exist_ok=True)
    stages = [describe(source) for source in with_inputs([stage]).values()]
    write_text(folder / "stages.json", json.dumps({"root": str(root.resolve()), "stages": stages}, indent=1))


def read_spec(folder: Path) -> tuple[Path, Stage]:
    """The root of the stages and the one to make, as planned.

    Raises:
        ValueError: the code or the external files have changed since, so that they would be other stages now.
    """
    spec = json.loads((folder / "stages.json").read_text(encoding="utf-8"))
    found: dict[str, Stage] = {}
    for facts in spec["stages"]:
        inputs = {name: found[source] for name, source in facts["inputs"].items()}
        stage = Stage(
            name=facts["name"],
            program=facts["program"],
            settings=facts["settings"],
            inputs=inputs,
            external=tuple(facts["external"]),
            parallel=facts["parallel"],
        )
        if key(stage) != facts["key"]:
            raise ValueError(
                f"what the stage {stage.name} is made from (source code or external files) has changed since the study was planned: "
                "run the same command again"
            )
        found[facts["key"]] = stage
    return Path(spec["root"]), found[spec["stages"][-1]["key"]]


class Job(Checkpointable):
    """The function submitit calls. A requeued job starts anew with the same arguments and goes on from what is on disk.

    Args:
        sweep: process that must live for the job to go on, on this machine; None on a cluster.
        processes: that train together.
    """

    def __init__(self, *, sweep: int | None, processes: int = 1) -> None:
        self.sweep, self.processes = sweep, processes

    def __call__(self, folder: str) -> bool:
        if self.sweep is not None:
            threading.Thread(target=_end_with, args=(self.sweep, os.getppid()), daemon=True).start()
        try:
            root, stage = read_spec(Path(folder))
        except ValueError as error:
            with StatusWriter(Path(folder)) as status:
                status.end("failed", error=str(error))
            return False
        return run(Path(folder), stage, StageStore(root, processes=self.processes))


def _end_with(sweep: int, parent: int) -> None:
    """Ends this process when the sweep or submitit's controller is gone: all that is done is on disk, and the next sweep goes on."""
    while locks.is_alive(sweep) and os.getppid() == parent:
        time.sleep(WATCH_S)
    os._exit(1)
