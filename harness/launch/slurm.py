"""`cluster=slurm`: jobs through `sbatch`, all at once: what waits for a job says so to Slurm (`afterok`)."""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness.launch import queue, record, sbatch, site
from harness.launch.cluster import Handle, Home, NotNow
from harness.launch.handle import SlurmHandle
from harness.launch.job import Job
from harness.launch.options import minutes
from harness.launch.options import parameters as sbatch_parameters
from harness.launch.queue import Queue
from harness.launch.record import Submission
from harness.launch.sbatch import Sbatch
from harness.settings import Problems, number, whole_number
from harness.stages import locks
from harness.stages.keys import key
from harness.study.cell import with_inputs
from harness.study.tasks import Task

PAUSES_S = (5.0, 15.0, 30.0, 60.0, 120.0, *[300.0] * 10)  # after each refusal in turn; then it is final
TRIAL_MIN = 2
SETTLE_S = 20.0  # Slurm may have started a job twice, and the second start only finds that all is done
LIMIT_PAUSE_S = 60.0  # until Slurm may take more jobs; as long as jobs of ours are there, one will end


class Slurm:
    """Submits all jobs of a study at once. Tasks of equal needs and resources are one array.

    Args:
        threads: cores of each process of a cell's job.
        shared_threads: the same for the job of a stage that several cells read.
        memory_gb: memory of every job on each node.
        timeout_min: time limit of every job, in minutes or as a text such as `24:00:00`. A job that reaches
            it, or is preempted, is queued again and resumes from its checkpoints.
        gpus: GPUs of each process.
        processes: processes on each node of a job.
        nodes: nodes of a job; all its processes train one cell together.
        requeues: how often a job is queued again without progress in between, at most.
        max_jobs: how many jobs of an array run at a time; None for as many as Slurm starts.
        wait: whether the sweep waits for the jobs and writes the report.
        dry_run: whether the sweep only prints the scripts.
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
        nodes: int = 1,
        requeues: int = 20,
        max_jobs: int | None = None,
        wait: bool = True,
        dry_run: bool = False,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        if shutil.which("sbatch") is None:
            raise ValueError(
                "cluster=slurm requires the command sbatch, which this machine does not have: "
                "use cluster=local, or run on a login node"
            )
        problems = Problems()
        for name, value, least in (
            ("resources.nodes", nodes, 1),
            ("resources.processes", processes, 1),
            ("resources.threads", threads, 1),
            ("resources.shared_threads", shared_threads, 1),
            ("resources.gpus", gpus, 0),
            ("cluster.requeues", requeues, 0),
        ):
            with problems.noted():
                whole_number(name, value, least=least)
        if max_jobs is not None:
            with problems.noted():
                whole_number("cluster.max_jobs", max_jobs, hint=", or null")
        self._parameters: dict[str, Any] = {"nodes": nodes, "tasks_per_node": processes}
        with problems.noted():
            self._parameters["mem_gb"] = number("resources.memory_gb", memory_gb, above=0, hint=", in GB")
        with problems.noted():
            self._parameters["timeout_min"] = minutes("resources.timeout_min", timeout_min)
        given: dict[str, Any] = {}
        with problems.noted():
            given = sbatch_parameters(options or {})
        problems.check()
        self.wait, self.dry_run = wait, dry_run
        self._threads, self._shared_threads = threads, shared_threads
        self._job = Job(sweep=None, processes=processes, requeues=requeues)
        self._options = given.pop("slurm_additional_parameters", {})
        self._parameters |= {
            "gpus_per_node": gpus * processes or None,
            "slurm_array_parallelism": max_jobs or site.MANY,
            **given,
            "slurm_srun_args": [*sbatch.SRUN, *given.get("slurm_srun_args", [])],
        }
        self.gpu_gb = None  # a login node does not know the GPUs of the others: resources.gpu_memory_gb says
        self.host_gb = self._parameters.get("mem_gb")  # not known where an option sets it
        self.never_requeued = bool(self._options.get("no_requeue"))
        self._queue = Queue()
        self._array = site.array_limit()
        self._refusals, self._again = 0, 0.0  # passing refusals in a row, and when the next attempt may be

    def check(self, tasks: Sequence[Task], study: Path) -> None:
        """Asks Slurm (`sbatch --test-only`) whether such jobs could ever run.

        Raises:
            ValueError: they could not. The message says all reasons.
        """
        for note in site.notes(no_requeue=self.never_requeued):
            print(f"note: {note}", file=sys.stderr)
        if site.version() is None:
            return
        refusals: dict[str, str] = {}
        for task in {task.shared: task for task in tasks}.values():
            with tempfile.TemporaryDirectory() as folder:
                call = self._call([task], [], Path(folder), code=None)
                if refused := call.test(1):
                    refusals.setdefault(refused, "a shared stage" if task.shared else "a cell")
        if refusals:
            listed = "; ".join(f"for the job of {kind}: {said}" for said, kind in refusals.items())
            raise ValueError(f"Slurm would never run these jobs. {listed}. Nothing was submitted")

    def trial(self, folder: Path) -> Sbatch:
        """A call of sbatch for a job with the resources of a cell that ends within minutes."""
        changes = {"name": "doctor", "timeout_min": TRIAL_MIN, "nodes": 1, "tasks_per_node": 1}
        return self._sbatch(folder, self._options, threads=self._threads, code=None, **changes)

    def show(self, tasks: Sequence[Task], study: Path) -> str:
        """The scripts of all calls of sbatch, each after the names of its tasks."""
        shown = []
        left = list(tasks)
        while left:
            group = self._group(left)
            needs = sorted({name for task in group for name in task.needs})
            with tempfile.TemporaryDirectory() as folder:
                jobs = [f"JOB_OF_{name}" for name in needs]
                call = self._call(group, jobs, Path(folder), code=None)
                text = call.script(len(group)).replace(folder, str(record.folder_of(study, "TOKEN")))
            names = "\n".join(f"#   {position}: {task.name}" for position, task in enumerate(group))
            shown.append(f"# sbatch, {len(group)} job(s):\n{names}\n{text}")
            left = [task for task in left if task not in group]
        return "\n".join(shown)

    def adopt(self, tasks: Sequence[Task], home: Home) -> dict[str, Handle]:
        """Finds the live jobs of earlier sweeps; cancels those that make nothing of these tasks.

        Raises:
            NotNow: jobs were submitted before, and Slurm does not say which of them live.
        """
        adopted, others = self._live(tasks, home)
        _cancel_unneeded(others)
        return adopted

    def finish(self, home: Home) -> None:
        """Waits a while for the jobs of a study that is over, and cancels those that have not ended.

        Raises:
            NotNow: Slurm does not say which jobs live.
        """
        if others := self._unsettled(home):
            _cancel_unneeded(others)
            self._unsettled(home)

    def _unsettled(self, home: Home) -> list[str]:
        """The jobs of the study that have not ended after a while."""
        end = time.monotonic() + SETTLE_S
        _, jobs = self._live([], home)
        while jobs and time.monotonic() < end:
            time.sleep(1.0)
            _, jobs = self._live([], home)
        return jobs

    def _live(self, tasks: Sequence[Task], home: Home) -> tuple[dict[str, Handle], list[str]]:
        """Task -> job, for live jobs that make these tasks; and the ids of the study's other live jobs."""
        submissions = record.read(home.study)
        entries = self._queue.ask() if submissions else {}
        if entries is None:
            raise NotNow("squeue gives no answer, so it is not known which jobs of this study still live")
        wanted = {task.name: task for task in tasks}
        adopted: dict[str, Handle] = {}
        others = []
        for submission in submissions:
            known = self._confirmed(submission, entries, home.study)
            if known.job is None:
                continue
            for position, (name, stage) in enumerate(zip(known.tasks, known.keys, strict=True)):
                job, task = known.job_of(position), wanted.get(name)
                if job not in entries:
                    continue
                if task is not None and key(task.stage) == stage and name not in adopted:
                    adopted[name] = self._handle(job, task, known, home.study)
                else:
                    others.append(job)
        return adopted, others

    def _confirmed(
        self, submission: Submission, entries: Mapping[str, queue.Entry], study: Path
    ) -> Submission:
        """The submission with its job id and complete folder, if Slurm accepted it."""
        if submission.job is None:
            found = [job for job, entry in entries.items() if entry.token == submission.token]
            if not found:
                return submission
            submission = replace(submission, job=found[0].partition("_")[0])
            record.append(study, submission)
        folder = record.folder_of(study, submission.token)
        sbatch.complete(folder, str(submission.job), len(submission.tasks))
        return submission

    def startable(self, waiting: Sequence[Task], running: Mapping[str, Handle]) -> list[Task]:
        """The first tasks of equal needs and resources, except in a pause after a refusal."""
        if not waiting or time.monotonic() < self._again:
            return []
        return self._group(waiting)

    def _group(self, waiting: Sequence[Task]) -> list[Task]:
        """The tasks that can be one array with the first one: its needs were submitted before it."""
        first = waiting[0]
        equal = [task for task in waiting if (task.needs, task.shared) == (first.needs, first.shared)]
        return equal[: self._array]

    def submit(self, tasks: Sequence[Task], running: Mapping[str, Handle], home: Home) -> dict[str, Handle]:
        """Submits the tasks as one array, after the jobs that they need.

        After a refusal it looks first whether the call was obeyed all the same.

        Raises:
            NotNow: Slurm refuses them for a temporary reason; they can be submitted again after a pause.
            FailedJobError: Slurm refuses them for good.
        """
        if self._refusals:
            accepted, _ = self._live(tasks, home)
            if accepted:
                self._refusals = 0
                return accepted
        submission = Submission(
            token=uuid.uuid4().hex[:12],
            tasks=tuple(task.name for task in tasks),
            keys=tuple(key(task.stage) for task in tasks),
        )
        needs = [running[name].id for name in tasks[0].needs if name in running]
        others = self._makers(tasks, home)
        folder = record.folder_of(home.study, submission.token)
        folder.mkdir(mode=0o700, parents=True)  # whoever can write it chooses what the jobs run
        call = self._call(tasks, needs, folder, home.code, others=others)
        record.append(home.study, submission)
        try:
            job = call.submit(self._job, [task.folder for task in tasks])
        except sbatch.REFUSALS as error:
            self._refused(error, len(tasks))
            raise
        self._refusals = 0
        submission = replace(submission, job=job)
        record.append(home.study, submission)
        handles: dict[str, Handle] = {}
        for position, task in enumerate(tasks):
            handles[task.name] = self._handle(submission.job_of(position), task, submission, home.study)
        return handles

    def _refused(self, error: Exception, count: int) -> None:
        """Pauses all submissions after a refusal for a temporary reason, unless there were too many.

        Raises:
            NotNow: the tasks can be submitted again, at once in smaller arrays, or after the pause.
        """
        message = sbatch.said(str(error))
        if count > 1 and (sbatch.NO_ARRAY in message or sbatch.is_limit(message)):
            self._array = 1 if sbatch.NO_ARRAY in message else count // 2
            raise NotNow(f"{message}; arrays of at most {self._array} jobs are submitted instead") from error
        if sbatch.is_limit(message) and self._queue.ask():
            pause_s = LIMIT_PAUSE_S
        elif not sbatch.is_passing(message) or self._refusals == len(PAUSES_S):
            return
        else:
            pause_s = PAUSES_S[self._refusals]
            self._refusals += 1
        self._again = time.monotonic() + pause_s
        raise NotNow(f"{message}; sbatch is tried again in {pause_s:.0f} s") from error

    def cancel(self, running: Mapping[str, Handle], home: Home) -> dict[str, Handle]:
        """Ends jobs with one scancel, also those whose id got lost. Returns those that may still live."""
        remaining = queue.cancel([handle.id for handle in running.values()])
        lost = {one.token for one in record.read(home.study) if one.job is None}
        if lost:
            queue.cancel([job for job, entry in (self._queue.ask() or {}).items() if entry.token in lost])
        return {name: handle for name, handle in running.items() if handle.id in remaining}

    def _makers(self, tasks: Sequence[Task], home: Home) -> list[str]:
        """Jobs of other studies that make a stage which all the tasks need, and would only wait for."""
        entries = self._queue.entries() or {}
        found: list[str] = []
        for lock in sorted((home.study.parent.parent / "stages").glob("*.lock")):
            owner = locks.owner_of(lock)
            if owner is None or owner.job is None or owner.job not in entries:
                continue
            if all(lock.stem in _stage_names(task) for task in tasks):
                found.append(owner.job)
        return found

    def _handle(self, job: str, task: Task, submission: record.Submission, study: Path) -> SlurmHandle:
        logs = record.folder_of(study, submission.token)
        return SlurmHandle(job, task.folder, self._queue, logs=logs, since=datetime.now(UTC))

    def _call(
        self,
        tasks: Sequence[Task],
        needs: Sequence[str],
        folder: Path,
        code: Path | None,
        *,
        others: Sequence[str] = (),
    ) -> Sbatch:
        """The call of sbatch for these tasks, after the success of the jobs `needs` and the end of others."""
        threads = self._shared_threads if tasks[0].shared else self._threads
        options = {**self._options}
        if not self.never_requeued:
            options["requeue"] = True
        after = [
            f"{kind}:{':'.join(jobs)}" for kind, jobs in (("afterok", needs), ("afterany", others)) if jobs
        ]
        if after:
            options["dependency"] = ",".join(filter(None, [options.get("dependency"), *after]))
            options["kill_on_invalid_dep"] = "yes"
        name = tasks[0].name if len(tasks) == 1 else tasks[0].folder.parent.parent.name
        return self._sbatch(folder, options, threads=threads, code=code, name=name)

    def _sbatch(
        self, folder: Path, options: Mapping[str, Any], *, threads: int, code: Path | None, **changes: Any
    ) -> Sbatch:
        """A call of sbatch with the parameters of every job, but for the changes."""
        parameters = {**self._parameters, **changes, "cpus_per_task": threads}
        given = {name: value for name, value in parameters.items() if value is not None}
        given["slurm_additional_parameters"] = options
        return Sbatch(folder, given, threads=threads, code=code)


def _cancel_unneeded(jobs: Sequence[str]) -> None:
    if jobs:
        print(f"cancelled, as the study no longer needs them: {', '.join(jobs)}", file=sys.stderr)
        queue.cancel(jobs)


def _stage_names(task: Task) -> set[str]:
    """The names of the folders of the task's stage and its inputs."""
    return {f"{stage.name}-{stage_key}" for stage_key, stage in with_inputs([task.stage]).items()}
