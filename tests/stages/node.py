"""A job on a node of a pretended cluster: `python node.py SPEC`, where SPEC is JSON.

The node's name and the job are those of Slurm's variables in the environment. `flock` is `local` (each node
knows only the locks of its own processes), `shared` or `none`. `constants` replaces those of modules, so that
minutes become seconds. The exit code says whether the stage is complete.
"""

from __future__ import annotations

import errno
import fcntl
import importlib
import json
import os
import sys
from pathlib import Path

from harness.stages.status import StatusWriter
from harness.stages.store import StageStore
from harness.study.cell import run
from harness.types import Stage

flock, close = fcntl.flock, os.close
local_by_descriptor: dict[int, int] = {}


def local_flock(descriptor: int, operation: int) -> None:
    """Locks a file that stands for the given one on this node."""
    if descriptor not in local_by_descriptor:
        folder = Path(os.environ["FLOCKS"]) / os.environ["SLURMD_NODENAME"]
        folder.mkdir(parents=True, exist_ok=True)
        name = folder / str(os.fstat(descriptor).st_ino)
        local_by_descriptor[descriptor] = os.open(name, os.O_RDWR | os.O_CREAT)
    flock(local_by_descriptor[descriptor], operation)


def local_close(descriptor: int) -> None:
    if descriptor in local_by_descriptor:
        close(local_by_descriptor.pop(descriptor))
    close(descriptor)


def no_flock(descriptor: int, operation: int) -> None:
    raise OSError(errno.ENOSYS, "no locks here")


if __name__ == "__main__":
    spec = json.loads(sys.argv[1])
    if spec["flock"] == "local":
        fcntl.flock, os.close = local_flock, local_close
    elif spec["flock"] == "none":
        fcntl.flock = no_flock
    for name, value in spec["constants"].items():
        module, _, constant = name.rpartition(".")
        setattr(importlib.import_module(module), constant, value)
    sys.path.insert(0, spec["programs"])
    with StatusWriter(Path(spec["folder"])) as status:
        complete = run(Stage(**spec["stage"]), StageStore(Path(spec["root"])), status)
    sys.exit(0 if complete else 1)
