"""`cluster=local`: jobs on this machine, as many at once as it has cores (or GPUs, one each)."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from submitit import LocalExecutor

from harness import provenance
from harness.launch.cluster import job_environment
from harness.launch.job import Job
from harness.launch.tasks import Task

NO_LIMIT_MIN = 60 * 24 * 365  # submitit's own limit is two minutes
CANCEL_S = 10.0


class Local:
    """Runs every job as a process of its own.

    Args:
        threads: cores of a cell's job. Never adapted to how many are left, so that numbers do not depend on it.
        shared_threads: cores of the job of a stage that several cells read.
        cores: cores to use at most; None for all this process may use.
    """

    poll_s = 0.25

    def __init__(self, *, threads: int, shared_threads: int, cores: int | None = None) -> None:
        for name, value in (("threads", threads), ("shared_threads", shared_threads)):
            if value < 1:
                raise ValueError(f"resources.{name}={value}: give at least 1")
        self._threads, self._shared_threads = threads, shared_threads
        self._cores = cores or available_cores()
        self._gpus = [index for index, _ in provenance.gpus()]
        self._running: list[LocalHandle] = []

    def has_room(self, task: Task) -> bool:
        """Whether it fits beside the jobs that run; a job larger than the machine runs alone."""
        self._running = [handle for handle in self._running if not handle.is_over()]
        used = sum(handle.threads for handle in self._running)
        fits = not self._running or used + self._need(task) <= self._cores
        return fits and (not self._gpus or self._free_gpu() is not None)

    def submit(self, task: Task) -> LocalHandle:
        gpu = self._free_gpu()
        executor = LocalExecutor(folder=task.folder / "logs")
        executor.update_parameters(
            timeout_min=NO_LIMIT_MIN, gpus_per_node=0 if gpu is None else 1, visible_gpus=() if gpu is None else (gpu,)
        )
        with job_environment(self._need(task)), _stderr_to(task.folder / "logs" / "controller.err"):
            job = executor.submit(Job(sweep=os.getpid()), str(task.folder.resolve()))
        self._running.append(LocalHandle(job, threads=self._need(task), gpu=gpu))
        return self._running[-1]

    def _need(self, task: Task) -> int:
        return self._shared_threads if task.shared else self._threads

    def _free_gpu(self) -> int | None:
        taken = {handle.gpu for handle in self._running}
        return next((gpu for gpu in self._gpus if gpu not in taken), None)


class LocalHandle:
    def __init__(self, job: object, *, threads: int, gpu: int | None) -> None:
        self._job = job
        self.id = str(job.job_id)  # type: ignore[attr-defined]
        self.threads, self.gpu = threads, gpu

    def is_over(self) -> bool:
        return bool(self._job.done())  # type: ignore[attr-defined]

    def cancel(self) -> None:
        """Interrupts the job and waits until it is gone; submitit kills it a second later if it does not go."""
        self._job.cancel()  # type: ignore[attr-defined]
        end = time.monotonic() + CANCEL_S
        while not self.is_over() and time.monotonic() < end:
            time.sleep(0.05)


@contextmanager
def _stderr_to(file: Path) -> Iterator[None]:
    """Lets a process that is started within write its errors to a file: submitit's own would show a traceback at every Ctrl-C."""
    sys.stderr.flush()
    ours = os.dup(2)
    try:
        with file.open("ab") as stream:
            os.dup2(stream.fileno(), 2)
        yield
    finally:
        os.dup2(ours, 2)
        os.close(ours)


def available_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
