"""Requests to stop, made by signals, and the ways in which programs obey them.

Slurm sends USR2 90 s before a time limit (`cluster.options.signal_delay_s`). It sends TERM when a job is
cancelled or preempted, and KILL after the site's KillWait (30 s by default). Ctrl-C sends INT. A signal only
notes a request. What obeys it depends on the work:

- A trainer ends after the current step, with a checkpoint (`Workspace.steps`). A step that takes longer than
  that time is lost, with those since the last periodic checkpoint.
- Other programs end at once (`at_once`): they resume from what they have written.
- A second signal of the same kind ends everything at once.

A request of one rank of a job becomes one of all ranks (see `harness.stages.ranks`).
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

SIGNALS = (signal.SIGUSR2, signal.SIGTERM, signal.SIGINT)
SAME_S = 2.0  # Slurm may send one signal twice: to the task, and through srun


class Stopped(SystemExit):
    """The work ends because a stop was requested. It is no `Exception`, which a program might catch."""

    def __init__(self, number: int) -> None:
        super().__init__(1)
        self.signal = signal.Signals(number)


@dataclass
class _Requests:
    """The requests of this process. `times` says when the first of each signal came."""

    times: dict[int, float] = field(default_factory=dict)
    at_once: bool = False


_requests = _Requests()


def install() -> None:
    """Notes `SIGNALS` from now on, whatever handled or ignored them before; forgets earlier requests."""
    _requests.times.clear()
    _requests.at_once = False
    for number in SIGNALS:
        signal.signal(number, _note)


def _note(number: int, frame: FrameType | None) -> None:
    now = time.monotonic()
    first = _requests.times.setdefault(number, now)
    if _requests.at_once or now - first > SAME_S:
        raise Stopped(number)
    print(f"{signal.Signals(number).name}: stopping", file=sys.stderr, flush=True)


def requested() -> int | None:
    """The signal of the first request; None if there is none."""
    return next(iter(_requests.times), None)


def request(number: int) -> None:
    """Makes the request that the signal would make, from any thread of this process."""
    main = threading.main_thread().ident
    assert main is not None
    signal.pthread_kill(main, number)


def check() -> None:
    """Ends the work if a stop was requested.

    Raises:
        Stopped: it was.
    """
    number = requested()
    if number is not None:
        raise Stopped(number)


@contextmanager
def at_once() -> Iterator[None]:
    """A request ends the block at once, also an earlier one. Only the main thread can be ended.

    Raises:
        Stopped: a stop is requested before or in the block.
    """
    before, _requests.at_once = _requests.at_once, True
    try:
        check()
        yield
    finally:
        _requests.at_once = before


def hold() -> None:
    """Requests are only noted for the rest of the block of `at_once`."""
    _requests.at_once = False
