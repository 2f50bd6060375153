"""What a `cluster=` component offers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from harness.stages.status import Status
from harness.study.tasks import Task


class NotNow(Exception):
    """The cluster refuses jobs for a temporary reason. The sweep submits them again later."""


class Handle(Protocol):
    """A submitted job."""

    id: str

    def is_over(self) -> bool:
        """Whether the job has ended, well or not. Its status says how."""
        ...

    def seen(self, status: Status) -> Status:
        """The status that its job wrote last, as the cluster sees it: queued, say."""
        ...

    def ending(self) -> list[str]:
        """What is known of a job that ended without a word: the end of its log, then the reason."""
        ...


@dataclass(frozen=True, kw_only=True)
class Home:
    """Where a study lies: its folder, and the folder of the frozen code that its jobs run."""

    study: Path
    code: Path | None = None


class Cluster(Protocol):
    """Where jobs run.

    `poll_s` is the time between two looks at the jobs. `jobs_go_on` says whether jobs outlive the sweep, so
    that an error of the sweep need not end them. `wait` says whether the sweep waits for the jobs, and
    `dry_run` whether it only shows them. `gpu_gb` is the memory of its smallest GPU and `host_gb` the memory
    of a job; each is None where it is not known.
    """

    poll_s: float
    jobs_go_on: bool
    wait: bool
    dry_run: bool
    gpu_gb: float | None
    host_gb: float | None

    def check(self, tasks: Sequence[Task], study: Path) -> None:
        """Finds out whether such jobs can run there. Writes nothing into the study.

        Raises:
            ValueError: they cannot. The message says all reasons.
        """
        ...

    def show(self, tasks: Sequence[Task], study: Path) -> str:
        """What would be submitted, as text."""
        ...

    def adopt(self, tasks: Sequence[Task], home: Home) -> dict[str, Handle]:
        """Task -> job, for the jobs of earlier sweeps that still make one of these tasks. Ends their others.

        Raises:
            NotNow: it cannot be known now.
        """
        ...

    def finish(self, home: Home) -> None:
        """Leaves no job of a study behind whose tasks are all over.

        Raises:
            NotNow: it is not known which jobs live.
        """
        ...

    def startable(self, waiting: Sequence[Task], running: Mapping[str, Handle]) -> list[Task]:
        """Tasks that can be submitted together now; empty if there are none."""
        ...

    def submit(self, tasks: Sequence[Task], running: Mapping[str, Handle], home: Home) -> dict[str, Handle]:
        """Submits the tasks; returns their jobs by name.

        Raises:
            NotNow: they were refused for a temporary reason; `startable` says when to try again.
            Exception: they were refused for good.
        """
        ...

    def cancel(self, running: Mapping[str, Handle], home: Home) -> dict[str, Handle]:
        """Ends jobs of the study. Returns those of which that is not known to have happened."""
        ...
