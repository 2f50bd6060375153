"""The environment variables of a job."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from harness.stages.ranks import import_path

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "RAYON_NUM_THREADS",
)


@contextmanager
def job_environment(threads: int) -> Iterator[None]:
    """Sets the environment variables that a job inherits, while the block runs.

    A job imports the same modules as this process, from the same folders first (a `benchmarks/` folder in the
    working directory hides nothing). Libraries use `threads` threads. Variables of an enclosing Slurm job are
    removed.
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
