"""`cluster=local`: jobs on this machine, as many at once as its cores and GPUs allow."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from submitit import LocalExecutor

from harness.launch.cluster import Handle, Home
from harness.launch.environment import job_environment
from harness.launch.job import Job
from harness.launch.logs import AGAIN, LOST, log_end
from harness.stages import nvidia, provenance
from harness.stages.status import Status
from harness.study.tasks import Task

NO_LIMIT_MIN = 60 * 24 * 365  # submitit's own limit is two minutes
CANCEL_S = 10.0


class Local:
    """Runs every job as a process of its own.

    Where a core would be idle, a job has a second process for its stages with `Stage.halves`: their numbers
    have the same bits with it.

    Args:
        threads: cores of each process of a cell's job; constant, so that no number depends on the load.
        shared_threads: the same for the job of a stage that several cells read.
        nodes: 1, for this machine.
        processes: processes of a job that train together, each with its own threads and GPU.
        cores: cores to use at most; None for all that this process may use.
    """

    poll_s = 0.25
    jobs_go_on = False
    wait, dry_run = True, False

    def __init__(
        self,
        *,
        threads: int,
        shared_threads: int,
        nodes: int = 1,
        processes: int = 1,
        cores: int | None = None,
    ) -> None:
        if nodes != 1:
            raise ValueError(
                f"resources.nodes={nodes}: cluster=local is this one machine. Give resources.nodes=1, or"
                " cluster=slurm on a login node"
            )
        for name, value in (
            ("processes", processes),
            ("threads", threads),
            ("shared_threads", shared_threads),
        ):
            if value < 1:
                raise ValueError(f"resources.{name}={value}: give at least 1")
        self._processes, self._threads, self._shared_threads = processes, threads, shared_threads
        self._cores = cores or available_cores()
        self._gpus = _usable_gpus(processes)
        self.gpu_gb = provenance.gpu_memory_gb()
        # stages on GPUs of unknown memory are not compared with the main memory
        self.host_gb = provenance.memory_gb() if self.gpu_gb or not self._gpus else None
        self._running: list[LocalHandle] = []
        self._helped: set[str] = set()  # the names of the tasks that have a second process

    def check(self, tasks: Sequence[Task], study: Path) -> None:
        """Any job can run here: one that is larger than the machine runs alone."""

    def show(self, tasks: Sequence[Task], study: Path) -> str:
        lines = []
        for task in tasks:
            helped = ", twice as many while no other job needs them" if self._can_be_helped(task) else ""
            lines.append(f"{task.name}: {self._need(task)} cores{helped}")
        return "\n".join(lines)

    def adopt(self, tasks: Sequence[Task], home: Home) -> dict[str, Handle]:
        """None: the jobs of another sweep end with it."""
        return {}

    def finish(self, home: Home) -> None:
        """Jobs of this machine are over when their tasks are."""

    def startable(self, waiting: Sequence[Task], running: Mapping[str, Handle]) -> list[Task]:
        """The first task that needs no other one any more, if it fits beside the running jobs."""
        names = {task.name for task in waiting}.union(running)
        for task in waiting:
            if not names.intersection(task.needs) and self.has_room(task):
                if self._is_helped(task, waiting):
                    self._helped.add(task.name)
                return [task]
        return []

    def has_room(self, task: Task) -> bool:
        """Whether the job fits beside the running jobs. A job larger than the machine runs alone."""
        self._running = [handle for handle in self._running if not handle.is_over()]
        fits = not self._running or self._used() + self._need(task) <= self._cores
        return fits and (not self._gpus or len(self._free_gpus()) >= self._processes)

    def submit(self, tasks: Sequence[Task], running: Mapping[str, Handle], home: Home) -> dict[str, Handle]:
        (task,) = tasks
        helping = task.name in self._helped
        cores, processes = self._need(task), 2 if helping else self._processes
        gpus = tuple(self._free_gpus()[: self._processes])
        executor = LocalExecutor(folder=task.folder / "logs")
        visible = nvidia.job_value(gpus)
        executor.update_parameters(timeout_min=NO_LIMIT_MIN, gpus_per_node=1 if visible else 0)
        # update_parameters takes indices only, and submitit sets CUDA_VISIBLE_DEVICES to the texts joined
        executor.parameters["visible_gpus"] = (visible,)
        with (
            job_environment(cores // processes, home.code),
            _stderr_to(task.folder / "logs" / "controller.err"),
        ):
            job = executor.submit(
                Job(sweep=os.getpid(), processes=processes, helping=helping), [str(task.folder.resolve())]
            )
        self._running.append(LocalHandle(job, task.folder / "logs", threads=cores, gpus=gpus))
        return {task.name: self._running[-1]}

    def cancel(self, running: Mapping[str, Handle], home: Home) -> dict[str, Handle]:
        """Interrupts jobs and waits for their end; submitit kills one that has not ended a second later."""
        for handle in running.values():
            handle.cancel()  # type: ignore[attr-defined]
        return {}  # a job that has not ended yet ends with this process

    def _need(self, task: Task) -> int:
        """Cores of a job, all its processes together."""
        processes = 2 if task.name in self._helped else self._processes
        return processes * (self._shared_threads if task.shared else self._threads)

    def _can_be_helped(self, task: Task) -> bool:
        fits = task.halves_gb is not None and task.halves_gb <= (self.host_gb or math.inf)
        return fits and self._processes == 1 and not self._gpus

    def _is_helped(self, task: Task, waiting: Sequence[Task]) -> bool:
        """Whether the cores for a second process would be idle until the task is done."""
        others = [other for other in waiting if other is not task and task.name not in other.needs]
        needed = 2 * self._need(task) + sum(map(self._need, others))
        return self._can_be_helped(task) and self._used() + needed <= self._cores

    def _used(self) -> int:
        return sum(handle.threads for handle in self._running)

    def _free_gpus(self) -> list[int | str]:
        taken: set[int | str] = set()
        for handle in self._running:
            taken.update(handle.gpus)
        return [gpu for gpu in self._gpus if gpu not in taken]


class LocalHandle:
    def __init__(self, job: object, logs: Path, *, threads: int, gpus: tuple[int | str, ...]) -> None:
        self._job, self._logs = job, logs
        self.id = str(job.job_id)  # type: ignore[attr-defined]
        self.threads, self.gpus = threads, gpus

    def is_over(self) -> bool:
        return bool(self._job.done())  # type: ignore[attr-defined]

    def seen(self, status: Status) -> Status:
        return status

    def ending(self) -> list[str]:
        lines = log_end(sorted(self._logs.glob(f"{self.id}_*_log.err")))
        return [*lines, f"job {self.id} {LOST}. {AGAIN}"]

    def cancel(self) -> None:
        self._job.cancel()  # type: ignore[attr-defined]
        end = time.monotonic() + CANCEL_S
        while not self.is_over() and time.monotonic() < end:
            time.sleep(0.05)


def _usable_gpus(processes: int) -> list[int | str]:
    """The names of the GPUs for jobs. Prints what could not be found out about them.

    Raises:
        ValueError: CUDA_VISIBLE_DEVICES cannot be used, or there are too few GPUs for the processes of a job.
    """
    found = nvidia.devices()
    if found.refused:
        raise ValueError(found.refused)
    gpus = [name for name, _ in provenance.gpus()]
    for line in filter(None, [*found.unknown, nvidia.memory()[1]]):
        print(f"warning: not known: {line}", file=sys.stderr)
    if gpus and processes > len(gpus):
        raise ValueError(
            f"resources.processes={processes}: each needs a GPU of its own, "
            f"and there are {len(gpus)}. Give fewer processes"
        )
    if processes > 1 and any(str(name).startswith("MIG-") for name in gpus):
        raise ValueError(
            f"resources.processes={processes}: CUDA shows one MIG slice to a job. Give resources.processes=1"
        )
    return gpus


@contextmanager
def _stderr_to(file: Path) -> Iterator[None]:
    """Sends the stderr of processes that the block starts to a file.

    Otherwise submitit's controller prints a traceback at every Ctrl-C.
    """
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
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
