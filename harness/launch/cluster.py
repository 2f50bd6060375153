"""What a `cluster=` component offers, and the environment every job gets."""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from harness.launch.tasks import Task

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS", "RAYON_NUM_THREADS")


class Handle(Protocol):
    """A submitted job."""

    id: str

    def is_over(self) -> bool:
        """Whether it will do no more, however it ended: what it came to is in its status."""
        ...

    def cancel(self) -> None: ...


class Cluster(Protocol):
    """Where jobs run."""

    poll_s: float

    def has_room(self, task: Task) -> bool: ...

    def submit(self, task: Task) -> Handle: ...


@contextmanager
def job_environment(threads: int) -> Iterator[None]:
    """The environment variables a job inherits, in place while the block runs.

    The same modules are importable, and found first, as in this process (a `benchmarks/` folder in the
    working directory hides nothing); libraries use `threads` threads; no trace of an enclosing Slurm job.
    """
    before = dict(os.environ)
    try:
        for name in before:
            if name.startswith(("SLURM_", "SUBMITIT_")) and name != "SLURM_CONF":
                del os.environ[name]
        os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))
        os.environ.update(TOKENIZERS_PARALLELISM="false", PYTHONHASHSEED="0", PYTHONSAFEPATH="1", PYTHONPATH=_import_path())
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _import_path() -> str:
    """`sys.path` without what every interpreter of this environment has anyway."""
    given = {Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    given |= {place / "lib-dynload" for place in given}
    places = [Path(place).resolve() for place in sys.path]
    return os.pathsep.join(str(place) for place in places if place.is_dir() and place not in given)
