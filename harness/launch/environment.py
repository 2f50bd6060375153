"""The environment variables of a job."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from harness.stages.process_group import VARIABLES
from harness.stages.ranks import import_path

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "RAYON_NUM_THREADS",
)
# they would count more than the options that the harness writes into the script
SBATCH_VARIABLES = (
    *("SBATCH_ARRAY_INX", "SBATCH_GPUS", "SBATCH_GPUS_PER_NODE", "SBATCH_GPUS_PER_TASK", "SBATCH_JOB_NAME"),
    *("SBATCH_MEM_PER_CPU", "SBATCH_MEM_PER_GPU", "SBATCH_MEM_PER_NODE", "SBATCH_OPEN_MODE", "SBATCH_SIGNAL"),
    *("SBATCH_TIMELIMIT", "SBATCH_WAIT"),
)


@contextmanager
def job_environment(threads: int) -> Iterator[None]:
    """Sets the environment variables that a job inherits, while the block runs.

    A job imports the same modules as this process, from the same folders first (a `benchmarks/` folder in the
    working directory hides nothing). Libraries use `threads` threads. Variables of an enclosing Slurm job, or
    of another launcher, are removed. So are those by which `sbatch` would ignore the limits of the harness.
    """
    before = dict(os.environ)
    try:
        for name in before:
            of_a_job = name.startswith(("SLURM_", "SUBMITIT_")) and name != "SLURM_CONF"
            if of_a_job or name in SBATCH_VARIABLES or name in VARIABLES:
                del os.environ[name]
        os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))
        os.environ.update(
            TOKENIZERS_PARALLELISM="false", PYTHONHASHSEED="0", PYTHONSAFEPATH="1", PYTHONPATH=import_path()
        )
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
