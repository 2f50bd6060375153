"""The environment variables of a job."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.stages.process_group import VARIABLES
from harness.stages.ranks import import_path

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "RAYON_NUM_THREADS",
)
OF_SLURM = ("SLURM_", "SBATCH_", "SRUN_", "SALLOC_", "SUBMITIT_")
# where Slurm is, and for whom and where a job runs; others would count more than what the script says
PLACES = ("ACCOUNT", "CLUSTERS", "CONSTRAINT", "PARTITION", "QOS", "RESERVATION", "WCKEY")
KEPT = frozenset({"SLURM_CONF", "SLURM_CLUSTERS", *(f"SBATCH_{name}" for name in PLACES)})


@contextmanager
def job_environment(threads: int, code: Path | None = None, options: Collection[str] = ()) -> Iterator[None]:
    """Sets the environment variables that a job inherits, while the block runs.

    A job imports the frozen code in the folder `code`, and all else as this process does, from the same
    folders first (a `benchmarks/` folder in the working directory hides nothing). Libraries use `threads`
    threads. Variables of an enclosing Slurm job, or of another launcher, are removed, and so are those by
    which `sbatch` would ignore what the harness writes into the script, with `options`; a job inherits all
    other variables.
    """
    before = dict(os.environ)
    folders = [str(code)] if code else []
    kept = KEPT - {f"SBATCH_{option.upper()}" for option in options}
    try:
        for name in before:
            if (name.startswith(OF_SLURM) and name not in kept) or name in VARIABLES:
                del os.environ[name]
        os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))
        os.environ.update(
            TOKENIZERS_PARALLELISM="false",
            PYTHONHASHSEED="0",
            PYTHONSAFEPATH="1",
            SBATCH_EXPORT="ALL",  # some centers set NONE, and a job would find no environment
            PYTHONPATH=os.pathsep.join([*folders, import_path()]),
        )
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
