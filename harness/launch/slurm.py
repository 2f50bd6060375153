"""`cluster=slurm`: jobs through `sbatch`; their state from `status.json` and `squeue`, never `sacct`."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from submitit import AutoExecutor
from submitit.core.utils import FailedJobError

from harness import processes
from harness.launch.cluster import NotNow
from harness.launch.environment import job_environment
from harness.launch.job import Job
from harness.launch.options import minutes
from harness.launch.options import parameters as sbatch_parameters
from harness.settings import number, whole_number
from harness.stages import locks
from harness.stages.status import OVER, is_silent, read_status
from harness.study.tasks import Task

ASK_EVERY_S = 20.0
PAUSES_S = (5.0, 15.0, 30.0, 60.0, 120.0, *[300.0] * 10)  # after each refusal in turn; then it is final
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
ENDED = ("Invalid job id", "already completing or completed")  # scancel of a job that is over


class Slurm:
    """Submits every job as soon as its inputs are complete.

    Args:
        threads: cores of each process of a cell's job.
        shared_threads: the same for the job of a stage that several cells read.
        memory_gb: memory of every job.
        timeout_min: time limit of every job, in minutes or as a text such as `24:00:00`. A job that reaches
            it, or is preempted, is queued again and resumes from its checkpoints.
        gpus: GPUs of each process.
        processes: processes of a job that train together, on one node.
        requeues: how often a job is queued again at most.
        options: further sbatch options, such as `partition` and `account`; `time` counts more than
            `timeout_min`, and an option for memory more than `memory_gb`.

    Raises:
        ValueError: there is no sbatch, or a setting or an option cannot be used.
    """

    poll_s = 2.0
    jobs_go_on = True

    def __init__(
        self,
        *,
        threads: int,
        shared_threads: int,
        memory_gb: float,
        timeout_min: int | str,
        gpus: int = 0,
        processes: int = 1,
        requeues: int = 20,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        if shutil.which("sbatch") is None:
            raise ValueError(
                "cluster=slurm requires the command sbatch, which this machine does not have: "
                "use cluster=local, or run on a login node"
            )
        self._processes, self._threads, self._shared_threads = processes, threads, shared_threads
        self._requeues = requeues
        self._refusals, self._again = 0, 0.0  # passing refusals in a row, and when the next attempt may be
        self.gpu_gb = None  # a login node does not know the GPUs of the others: resources.gpu_memory_gb says
        for name, value in (
            ("processes", processes),
            ("threads", threads),
            ("shared_threads", shared_threads),
        ):
            whole_number(f"resources.{name}", value)
        whole_number("resources.gpus", gpus, least=0)
        whole_number("cluster.requeues", requeues, least=0)
        # one task per node: it is rank 0, which starts the other ranks
        parameters: dict[str, Any] = {"nodes": 1, "tasks_per_node": 1}
        parameters["mem_gb"] = number("resources.memory_gb", memory_gb, above=0, hint=", in GB")
        parameters["timeout_min"] = minutes("resources.timeout_min", timeout_min)
        parameters["gpus_per_node"] = gpus * processes or None
        parameters |= sbatch_parameters(options or {})
        self._parameters = {name: value for name, value in parameters.items() if value is not None}
        self.host_gb = self._parameters.get("mem_gb")  # not known where an option sets it

    def has_room(self, task: Task) -> bool:
        return time.monotonic() >= self._again

    def submit(self, task: Task) -> SlurmHandle:
        try:
            handle = self._submit(task)
        except FailedJobError as error:
            self._refused(error)
            raise
        self._refusals = 0
        return handle

    def _refused(self, error: FailedJobError) -> None:
        """Pauses all submissions after a refusal for a temporary reason, unless there were too many.

        Raises:
            NotNow: the job can be submitted again after the pause.
        """
        if not any(reason.lower() in str(error).lower() for reason in PASSING):
            return
        if self._refusals == len(PAUSES_S):
            return
        pause_s = PAUSES_S[self._refusals]
        self._refusals, self._again = self._refusals + 1, time.monotonic() + pause_s
        raise NotNow(f"{error}; sbatch is tried again in {pause_s:.0f} s") from error

    def _submit(self, task: Task) -> SlurmHandle:
        threads = self._shared_threads if task.shared else self._threads
        executor = AutoExecutor(folder=task.folder / "logs", cluster="slurm")
        executor.update_parameters(
            name=task.name, cpus_per_task=threads * self._processes, **self._parameters
        )
        with job_environment(threads):
            job = executor.submit(
                Job(sweep=None, processes=self._processes, requeues=self._requeues),
                [str(task.folder.resolve())],
            )
        return SlurmHandle(str(job.job_id), task.folder)


class SlurmHandle:
    def __init__(self, job_id: str, folder: Path) -> None:
        self.id = job_id
        self._folder = folder
        self._asked = time.monotonic()
        self._missed = 0

    def is_over(self) -> bool:
        """Whether its status says so, or Slurm has not listed it twice.

        A shared file system may show the last status late.
        """
        status = read_status(self._folder)
        if status.state in OVER:
            return True
        if time.monotonic() - self._asked > ASK_EVERY_S:
            self._asked = time.monotonic()
            listed = locks.slurm_lists(self.id)
            gone = is_silent(self._folder, status) if listed is None else not listed
            self._missed = self._missed + 1 if gone else 0
        return self._missed > 1

    def cancel(self) -> bool:
        answer = processes.ask(["scancel", self.id])
        return answer is not None and (answer.code == 0 or any(end in answer.errors for end in ENDED))
