"""How a stopped job ends: queued again at its time limit, left to Slurm, or with one clear line.

Slurm sends USR2 before the time limit. The job then asks `scontrol` to queue it again. Where Slurm preempts a
job or its node goes down, it sends TERM and queues the job again by itself.

A job that reaches its limit again and again without progress would never end. `requeues.json` in the folder
of the task holds how far the job had come at its last limit, and how often it has made no progress since.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from harness import processes
from harness.files import write_text
from harness.stages import locks
from harness.stages.keys import key
from harness.stages.status import StatusWriter

TIMEOUT_S = 60.0  # Slurm sends its signal 90 s before it ends the job
ADVICE = "Finished steps are kept: run the same command again to resume from the last checkpoint"


class NotRequeued(Exception):
    """The job must end, and is not queued again."""


@dataclass(frozen=True, kw_only=True)
class Reached:
    """How far a job had come at its last limit. `idle` counts the limits without progress before that."""

    job: str
    stage: str | None = None
    step: int = 0
    idle: int = 0

    def then(self, job: str, stage: str | None, step: int) -> Reached:
        """The same at the next limit. Progress is another stage or a larger step."""
        again = job != self.job  # somebody has run the command
        if again or stage != self.stage or step > self.step:
            return Reached(job=job, stage=stage, step=step)
        return Reached(job=job, stage=stage, step=self.step, idle=self.idle + 1)


def end(folder: Path, status: StatusWriter, number: int, limit: int) -> None:
    """Writes how a job ends that a signal has stopped, and queues it again if it has reached its time limit.

    Args:
        folder: of the task.
        status: of the task.
        number: the signal.
        limit: `cluster.requeues`.
    """
    name = signal.Signals(number).name
    if number != signal.SIGUSR2 or "SLURM_JOB_ID" not in os.environ:
        reason = f"{name} has stopped the job. {ADVICE}"
        if number == signal.SIGTERM and "SLURM_JOB_ID" in os.environ:
            reason += ". If Slurm has preempted it, Slurm queues it again by itself"
        status.end("stopped", error=reason)
        return
    try:
        job = str(locks.job_id())
        _count(folder, status, job, limit)
        status.end("stopped", error=f"the job {job} has reached its time limit and is queued again")
        _requeue(job)
    except NotRequeued as error:
        print(f"error: {error}", file=sys.stderr)
        status.end("failed", error=str(error))


def _count(folder: Path, status: StatusWriter, job: str, limit: int) -> None:
    """Compares how far the job has come with its last limit, and keeps that.

    Raises:
        NotRequeued: it has made no progress too often.
    """
    stage = key(status.stage) if status.stage is not None else None
    reached = _read(folder).then(job, stage, status.status.step or 0)
    if reached.idle > limit:
        raise NotRequeued(
            f"job {job} must end, and is not queued again: it has reached its time limit {reached.idle + 1}"
            f" times at step {reached.step} of {status.status.stage}, and allowed is"
            f" cluster.requeues={limit} times without progress. Raise resources.timeout_min. {ADVICE}"
        )
    write_text(folder / "requeues.json", json.dumps(asdict(reached)))


def _read(folder: Path) -> Reached:
    """What the file says; a file that cannot be read is one that is not there."""
    try:
        return Reached(**json.loads((folder / "requeues.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return Reached(job="")


def _requeue(job: str) -> None:
    """Queues a job again.

    Raises:
        NotRequeued: Slurm refuses, or does not answer.
    """
    answer = processes.ask(["scontrol", "requeue", job], timeout_s=TIMEOUT_S)
    # a signal: the requeue ends all of the job, scontrol included
    if answer is not None and answer.code <= 0:
        print(f"job {job} is queued again", flush=True)
        return
    if answer is None:
        reason = f"scontrol cannot be run or gave no answer within {TIMEOUT_S:.0f} s"
    else:
        said = " ".join((answer.errors + answer.output).split()) or "nothing"
        reason = f"scontrol failed with code {answer.code} and said: {said.rstrip('.')}"
    raise NotRequeued(f"job {job} must end, and is not queued again: {reason}. {ADVICE}")
