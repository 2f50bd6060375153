"""What a `cluster=` component offers, and the environment every job gets."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from harness.stages.ranks import import_path
from harness.study.tasks import Task

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "RAYON_NUM_THREADS",
)


class Handle(Protocol):
    """A submitted job."""

    id: str

    def is_over(self) -> bool:
        """Whether it will do no more, however it ended: what it came to is in its status."""
        ...

    def cancel(self) -> None: ...


class Cluster(Protocol):
    """Where jobs run; `gpu_gb` is the memory of its GPUs and `host_gb` that of a job, each None where it is not known."""

    poll_s: float
    gpu_gb: float | None
    host_gb: float | None

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
        os.environ.update(
            TOKENIZERS_PARALLELISM="false", PYTHONHASHSEED="0", PYTHONSAFEPATH="1", PYTHONPATH=import_path()
        )
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
