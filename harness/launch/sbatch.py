"""One call of sbatch through submitit: its script, its folder, and what a refusal means."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from submitit import AutoExecutor, SlurmExecutor
from submitit.core.utils import FailedJobError, FailedSubmissionError, JobPaths
from submitit.slurm.slurm import _make_sbatch_string

from harness import processes
from harness.launch import site
from harness.launch.environment import job_environment

PASSING = (  # what sbatch says when the controller is busy, restarts, or is out of reach for a moment
    "Socket timed out",
    "Unable to contact slurm controller",
    "temporarily un",  # "Resource temporarily unavailable", "Slurm temporarily unable to accept job"
    "Zero Bytes were transmitted or received",
    "Transport endpoint is not connected",
    "Connection refused",
    "Connection reset",
    "Connection timed out",
    "Communication connection failure",
    "Unexpected message received",
    "backup controller",
    "Slurm is not ready",
)
LIMITS = ("MaxSubmit", "job submit limit", "MaxJobCount", "maximum number of jobs")  # of jobs in the queue
TOO_MUCH = "Requested node configuration is not available"
HINTS = {
    TOO_MUCH: "no node has as much as resources.memory_gb, threads, processes and gpus ask for, or there are"
    " fewer nodes than resources.nodes",
    "Invalid generic resource": "resources.gpus or an option asks for what this cluster does not have",
}
NO_ARRAY = "Invalid job array specification"
# a job's first second: Slurm's signals must not end Python before it can note them
START = 'trap "" USR2 INT TERM; exec "$@"'
SRUN = ["--kill-on-bad-exit=1"]
PENDING_PICKLE = re.compile(r"[0-9a-f]{32}\.pkl")  # submitit's name while the job id is not known


class Sbatch:
    """Submits tasks that need equal resources, as one job or one array.

    Args:
        folder: of the submission; made here, for this user alone.
        parameters: of submitit's AutoExecutor.
        threads: of each process.
        code: the folder of the code that the jobs run.
    """

    def __init__(
        self, folder: Path, parameters: Mapping[str, Any], *, threads: int, code: Path | None
    ) -> None:
        self._folder, self._threads, self._code = folder, threads, code
        self._options = {*parameters.get("slurm_additional_parameters", {})}
        self._executor = AutoExecutor(
            folder=folder, cluster="slurm", slurm_python=shlex.join(["sh", "-c", START, "sh", sys.executable])
        )
        self._executor.update_parameters(**parameters)

    def script(self, tasks: int) -> str:
        """The text of the script for this number of tasks."""
        slurm = self._executor._executor
        assert isinstance(slurm, SlurmExecutor)
        return _make_sbatch_string(
            command=slurm._submitit_command_str,
            folder=self._folder,
            map_count=tasks if tasks > 1 else None,
            **slurm.parameters,
        )

    def submit(self, job: Callable[[list[str]], Any], tasks: Sequence[Path]) -> str:
        """Submits a job for each task folder, which gets all folders; returns the id of the job or array.

        Raises:
            FailedJobError: sbatch refused it, with its message.
            FailedSubmissionError: sbatch did not say an id.
        """
        folders = [str(folder.resolve()) for folder in tasks]
        with job_environment(self._threads, self._code, self._options):
            jobs = self._executor.map_array(job, [folders] * len(tasks))
        return str(jobs[0].job_id).partition("_")[0]

    def test(self, tasks: int) -> str | None:
        """Why Slurm would never run such jobs, in its words; None where it would, or does not say.

        Slurm leaves out nodes that are down or drained for now, and so cannot say while there are some.
        """
        file = self._folder / "test.sh"
        file.write_text(self.script(tasks), encoding="utf-8")
        with job_environment(self._threads, self._code, self._options):
            answer = processes.ask(["sbatch", "--test-only", file])
        if answer is None or answer.code == 0 or is_passing(answer.errors):
            return None
        if TOO_MUCH in answer.errors and not site.all_nodes_work():
            return None
        reason = said(answer.errors)
        return next((f"{reason} ({hint})" for words, hint in HINTS.items() if words in reason), reason)


def complete(folder: Path, job: str, tasks: int) -> None:
    """Gives the arguments of a submission the names by which its jobs look for them.

    Submitit does this itself, unless it was killed or got no id from an sbatch that was obeyed all the same.
    All tasks of a submission have equal arguments.
    """
    left = sorted(file for file in folder.glob("*.pkl") if PENDING_PICKLE.fullmatch(file.name))
    for position in range(tasks):
        paths = JobPaths(folder, f"{job}_{position}" if tasks > 1 else job)
        if left and not paths.submitted_pickle.exists():
            paths.move_temporary_file(left.pop(), "submitted_pickle")


def said(errors: str) -> str:
    """What sbatch said, on one line and without its own name."""
    lines = [re.sub(r"^sbatch: (error: )?", "", line.strip()) for line in errors.splitlines()]
    return "; ".join(dict.fromkeys(line for line in lines if line))


def is_passing(message: str) -> bool:
    """Whether a refusal is due to the state of the controller."""
    return any(reason.lower() in message.lower() for reason in PASSING)


def is_limit(message: str) -> bool:
    """Whether a refusal is, or may be, due to the number of jobs in the queue."""
    return any(reason.lower() in message.lower() for reason in LIMITS)


REFUSALS = (FailedJobError, FailedSubmissionError)
