"""What `squeue` and `scontrol` say of jobs. Slurm's accounting (`sacct`) is not used: many sites lack it."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from harness import processes
from harness.stages.status import OVER, Status

ASK_EVERY_S = 30.0
ANSWER_S = 15.0  # a controller that hangs must not hold up the table of cells for longer
ENDED = ("Invalid job id", "already completing or completed")  # scancel of a job that is over
NO_TASK = str(2**32 - 2)  # ArrayTaskId of an array whose last pending jobs were cancelled one by one
FORMAT, FIELDS = "%i|%T|%r|%o", 4  # of a line of squeue
QUEUED = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "SUSPENDED")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A job that Slurm still has: its state and reason in Slurm's words, and the path of its script."""

    state: str
    reason: str
    script: Path

    @property
    def token(self) -> str:
        """The token of its submission, if the harness has submitted it: its script lies in that folder."""
        return self.script.parent.name

    @property
    def is_queued(self) -> bool:
        return self.state in QUEUED

    def why(self, job: str) -> str:
        """Why a queued job does not run, in parentheses, with what to do where that is known."""
        if "held" in self.reason.lower() or self.state in ("REQUEUE_HOLD", "SPECIAL_EXIT"):
            return f" (held, {self.reason}: scontrol release {job})"
        return "" if self.reason == "None" else f" ({self.reason})"


class Queue:
    """The jobs of this user, asked for all together and at most twice a minute."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] | None = None
        self._asked_s = float("-inf")
        self.asked = datetime.fromtimestamp(0, UTC)  # when it was asked last

    def entries(self) -> Mapping[str, Entry] | None:
        """Job id -> entry; None if Slurm gave no answer at the last time, from which nothing follows."""
        if time.monotonic() - self._asked_s > ASK_EVERY_S:
            self.ask()
        return self._entries

    def ask(self) -> dict[str, Entry] | None:
        """Asks now. Returns the same as `entries`."""
        command = ["squeue", "--noheader", "--array", f"--user={os.getuid()}", f"--format={FORMAT}"]
        answer = processes.ask(command, timeout_s=ANSWER_S)
        self._entries, self._asked_s, self.asked = None, time.monotonic(), datetime.now(UTC)
        if answer is None or answer.code != 0:
            return None
        entries = {}
        for line in answer.output.splitlines():
            parts = line.strip().split("|", FIELDS - 1)
            if len(parts) == FIELDS:
                job, state, reason, script = parts
                entries[job] = Entry(state=state, reason=reason, script=Path(script))
        self._entries = entries
        return entries


def seen(status: Status, job: str, entries: Mapping[str, Entry] | None, asked: datetime) -> Status:
    """The status that a job wrote last, as Slurm sees the job.

    Args:
        status: of its task. Another job may have written it.
        job: its id.
        entries: what Slurm listed; None if it gave no answer.
        asked: when Slurm was asked. What the job wrote later counts more.
    """
    own = status.job == job
    if own and status.state not in OVER and status.updated and datetime.fromisoformat(status.updated) > asked:
        return status
    if entries is None and status.state == "planned":
        return replace(status, state="queued", job=job, waits_for="Slurm")
    if entries is None or (own and status.state in ("done", "failed")):
        return status
    entry = entries.get(job)
    if entry is None:
        return status if status.state in OVER else replace(status, state="lost", job=job, eta_s=None)
    reached = Status(reward=status.reward, job=job)
    if entry.is_queued:
        return replace(reached, state="queued", waits_for=f"Slurm{entry.why(job)}")
    return status if own and status.state not in OVER else replace(reached, state="running")


def cancel(jobs: Sequence[str]) -> list[str]:
    """Cancels jobs with one call. Returns those that are not known to be cancelled or over."""
    if not jobs:
        return []
    answer = processes.ask(["scancel", *jobs])
    if answer is not None and answer.code == 0:
        return []
    if answer is None:
        return list(jobs)
    lines = [line for line in answer.errors.splitlines() if not any(end in line for end in ENDED)]
    if answer.errors.strip() and not lines:
        return []
    named = [job for job in jobs if any(re.search(rf"\b{job}\b", line) for line in lines)]
    return named or list(jobs)


def endings(jobs: Collection[str]) -> dict[str, str]:
    """Job id -> how it ended, as a phrase, for jobs that Slurm no longer queues, where Slurm says so.

    Slurm forgets a job a few minutes after its end (MinJobAge).
    """
    arrays = {job.partition("_")[0] for job in jobs}
    one = list(arrays) if len(arrays) == 1 else []  # with its array: jobs that never began may share an entry
    answer = processes.ask(["scontrol", "show", "job", *one, "--oneliner"], timeout_s=ANSWER_S)
    phrases: dict[str, str] = {}
    of_arrays: dict[str, str] = {}
    for line in answer.output.splitlines() if answer and answer.code == 0 else ():
        facts = dict(re.findall(r"(\w+)=(\S+)", line))
        phrase = _ending(facts)
        if phrase is None:
            continue
        array = facts.get("ArrayJobId")
        if array and facts["ArrayTaskId"] == NO_TASK:
            of_arrays[array] = phrase
        job = f"{array}_{facts['ArrayTaskId']}" if array else facts.get("JobId", "")
        for name in jobs:
            if name == job or _among(name, job):
                phrases[name] = phrase
    unlisted = {job: job.partition("_")[0] for job in jobs if job not in phrases}
    return phrases | {job: of_arrays[array] for job, array in unlisted.items() if array in of_arrays}


def _among(job: str, entry: str) -> bool:
    """Whether an entry such as `12_[0-3,7]` or `12_0-3%2` names the job `12_1`."""
    array, _, position = job.partition("_")
    of, _, listed = entry.partition("_")
    if array != of or not position:
        return False
    for part in listed.strip("[]").partition("%")[0].split(","):
        first, _, last = part.strip("[]").partition("-")
        if first.isdecimal() and int(first) <= int(position) <= int(last or first):
            return True
    return False


def _ending(facts: Mapping[str, str]) -> str | None:
    """How a job ended, from the fields of scontrol."""
    state = facts.get("JobState", "")
    if state.startswith("CANCELLED"):
        return "was cancelled before it started" if facts.get("RunTime") == "00:00:00" else "was cancelled"
    code, _, number = facts.get("ExitCode", "0:0").partition(":")
    phrases = {
        "TIMEOUT": "reached its time limit (resources.timeout_min)",
        "OUT_OF_MEMORY": "needed more memory than it has (resources.memory_gb)",
        "NODE_FAIL": "lost its node",
        "DEADLINE": "reached its deadline",
        "BOOT_FAIL": "did not start: its node did not boot",
        "FAILED": f"ended with exit code {code}" if number in ("", "0") else f"was ended by signal {number}",
    }
    return phrases.get(state)
