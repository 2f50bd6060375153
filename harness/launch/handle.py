"""A job that Slurm has accepted, as its status, squeue and its logs show it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from harness.launch import queue
from harness.launch.logs import ending
from harness.launch.queue import Entry, Queue
from harness.stages.status import OVER, Status, is_silent, read_status


class SlurmHandle:
    """A job of Slurm; an element of an array is one too.

    Args:
        job: its id, such as `123` or `123_4`.
        folder: of its status.
        queue: shared by all handles of a sweep.
        logs: the folder of its logs.
        since: when it was submitted at the latest; what Slurm listed before says nothing of it.
    """

    def __init__(self, job: str, folder: Path, queue: Queue, *, logs: Path, since: datetime) -> None:
        self.id = job
        self._folder, self._queue, self._logs, self._since = folder, queue, logs, since
        self._missed: set[datetime] = set()  # when Slurm was asked and did not list it
        self._shown = Status(state="queued", job=job, waits_for="Slurm")

    def is_over(self) -> bool:
        """Whether its status says so, or Slurm has not listed it twice.

        A shared file system may show the last status late. A job that was stopped may be queued again.
        """
        status = read_status(self._folder)
        own = status.job == self.id
        if own and status.state in ("done", "failed"):
            return True
        entries = self._entries()
        gone = (own and is_silent(self._folder, status)) if entries is None else self.id not in entries
        if not gone:
            self._missed.clear()
            return False
        self._missed.add(self._queue.asked)
        return len(self._missed) > 1 or (own and status.state in OVER and entries is not None)

    def seen(self, status: Status) -> Status:
        shown = queue.seen(status, self.id, self._entries(), self._queue.asked)
        if shown.state != "lost":  # which is said once the job is known to be over
            self._shown = shown
        return self._shown

    def _entries(self) -> Mapping[str, Entry] | None:
        """What Slurm lists; None if it does not say, or has not been asked since the job was submitted."""
        entries = self._queue.entries()
        return entries if self._queue.asked >= self._since else None

    def ending(self) -> list[str]:
        """The end of its log, and how it ended as far as Slurm says it."""
        began = read_status(self._folder).job == self.id
        how = queue.endings([self.id]).get(self.id)
        return ending(self.id, self._logs, how=how, began=began)
