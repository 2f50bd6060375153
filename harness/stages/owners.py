"""Owners of locks: which process on which machine, in which Slurm job, and what is known of its life."""

from __future__ import annotations

import os
import re
import socket
import time
from dataclasses import dataclass
from datetime import UTC, datetime

from harness import processes

ASK_EVERY_S = 30.0  # per owner: many jobs may wait for one, and each of them asks the one controller
QUEUED = {"PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD"}
OVER = {"COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "OUT_OF_MEMORY", "NODE_FAIL", "PREEMPTED", "BOOT_FAIL"}
OVER |= {"DEADLINE", "REVOKED", "LAUNCH_FAILED"}
NO_ANSWER = ("*", "DOWN", "UNK", "NO_RESPOND", "NOT_RESPOND", "FUTURE")  # in the state of a node

_known: dict[Owner, tuple[float, bool | None]] = {}


@dataclass(frozen=True, kw_only=True)
class Owner:
    """The process that holds a lock. Lock files of earlier versions lack what has a default.

    Args:
        job: as `job_id`, None outside Slurm.
        since: when it took the lock, in UTC.
        flock: whether the kernel knows of the lock too.
        start: when the process began, in ticks since the machine did: another process may get its number.
        node: Slurm's name of the machine; two nodes of a test cluster may share one host name.
        restarts: how often Slurm had queued the job again.
    """

    host: str
    pid: int
    job: str | None
    since: str
    flock: bool = True
    start: str | None = None
    node: str | None = None
    restarts: str | None = None

    def __str__(self) -> str:
        node = f", node {self.node}" if self.node and self.node != self.host.partition(".")[0] else ""
        job = f", Slurm job {self.job}" if self.job else ""
        return f"process {self.pid} on {self.host}{node}{job}, since {self.since}"

    def is_here(self) -> bool:
        """Whether it is, or was, a process of this machine."""
        return (self.host, self.node) == (socket.gethostname(), _node())

    def has_process(self) -> bool:
        """Whether its process runs. Only of an owner that `is_here`."""
        return processes.is_alive(self.pid) and self.start in (None, _start(self.pid))


def me() -> Owner:
    """Return this process as an owner."""
    return Owner(
        host=socket.gethostname(),
        pid=os.getpid(),
        job=job_id(),
        since=datetime.now(UTC).isoformat(timespec="seconds"),
        start=_start(os.getpid()),
        node=_node(),
        restarts=_restarts(),
    )


def job_id() -> str | None:
    """Return the Slurm job of this process as squeue names it (`7`, or `7_2` in an array), None outside."""
    array, element = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{element}" if array and element else os.environ.get("SLURM_JOB_ID")


def slurm_lists(job: str) -> bool | None:
    """Whether `squeue` lists the job; None if Slurm gives no answer, from which nothing follows."""
    state = _state(job)
    return None if state is None else bool(state)


def runs_elsewhere(owner: Owner) -> bool | None:
    """Whether Slurm knows that an owner on another machine runs, or has ended; None if it does not know.

    A job that Slurm no longer runs has ended, if its node answers: Slurm ends all its processes there first.
    On a node that does not answer, a process may work on for as long as it likes.
    """
    if owner.job is None:
        return None
    asked, answer = _known.get(owner, (-ASK_EVERY_S, None))
    if time.monotonic() - asked >= ASK_EVERY_S:
        answer = _runs(owner, owner.job)
        _known[owner] = time.monotonic(), answer
    return answer


def _runs(owner: Owner, job: str) -> bool | None:
    if job == job_id():
        if owner.restarts == _restarts():  # another process of this job, on another of its nodes
            return None
    else:
        state = _state(job)
        if state is None:
            return None
        if state and state not in QUEUED | OVER:
            return True
    return False if _answers(owner.node or owner.host.partition(".")[0]) else None


def _state(job: str) -> str | None:
    """The state of a job by squeue, empty if it is not listed; None if Slurm gives no answer."""
    answer = processes.ask(["squeue", "-h", "-j", job, "-o", "%T"])
    if answer is None:
        return None
    if answer.code != 0:
        return "" if "Invalid job id" in answer.errors else None
    return answer.output.strip().partition("\n")[0]


def _answers(node: str) -> bool:
    """Whether Slurm says that a node answers it."""
    answer = processes.ask(["scontrol", "show", "node", node])
    state = re.search(r"\bState=(\S+)", answer.output) if answer is not None and answer.code == 0 else None
    return state is not None and not any(sign in state[1].upper() for sign in NO_ANSWER)


def _node() -> str | None:
    return os.environ.get("SLURMD_NODENAME")


def _restarts() -> str | None:
    """How often Slurm has queued this job again: that sets the variable only from the first time on."""
    return os.environ.get("SLURM_RESTART_COUNT", "0") if "SLURM_JOB_ID" in os.environ else None


def _start(pid: int) -> str | None:
    ticks = processes.began(pid)
    return None if ticks is None else str(ticks)
