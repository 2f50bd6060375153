"""What a `cluster=` component offers."""

from __future__ import annotations

from typing import Protocol

from harness.study.tasks import Task


class NotNow(Exception):
    """The cluster refuses a job for a temporary reason. The sweep submits the job again later."""


class Handle(Protocol):
    """A submitted job."""

    id: str

    def is_over(self) -> bool:
        """Whether the job has ended, well or not. Its status says how."""
        ...

    def cancel(self) -> bool:
        """Ends the job. Returns whether that is known to have happened."""
        ...


class Cluster(Protocol):
    """Where jobs run.

    `poll_s` is the time between two looks at the jobs. `jobs_go_on` says whether jobs outlive the sweep, so
    that an error of the sweep need not end them. `gpu_gb` is the memory of its smallest GPU and
    `host_gb` the memory of a job; each is None where it is not known.
    """

    poll_s: float
    jobs_go_on: bool
    gpu_gb: float | None
    host_gb: float | None

    def has_room(self, task: Task) -> bool:
        """Whether the task can be submitted now."""
        ...

    def submit(self, task: Task) -> Handle:
        """Starts the task.

        Raises:
            NotNow: it was refused for a temporary reason; `has_room` says when to try again.
            Exception: it was refused for good.
        """
        ...
