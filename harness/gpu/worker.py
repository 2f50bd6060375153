"""Phases run in a process of their own, so that a crash or a hang ends one of them only.

The process serves one phase after another. It is replaced after a phase that failed: an error on a GPU may
leave a context in which every later call fails.
"""

from __future__ import annotations

import gc
import multiprocessing
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

from harness.gpu.phases import Sources, collect
from harness.protocols import GpuPhase, Measured

MESSAGE = 300  # characters of an exception, in the table


@dataclass(kw_only=True)
class Outcome:
    """The result of a phase: `measured` so far, and why it failed or was left out (both empty: it ran)."""

    phase: str
    seconds: float = 0.0
    peak_gb: float | None = None
    measured: list[Measured] = field(default_factory=list)
    failure: str = ""
    left_out: str = ""


class Worker:
    """A process that runs phases.

    Args:
        sources: of the phases; the process collects them again.
    """

    def __init__(self, sources: Sources) -> None:
        context = multiprocessing.get_context("spawn")  # CUDA does not survive a fork
        self._connection, its_end = context.Pipe()
        self._process = context.Process(target=_serve, args=(sources, its_end))
        self._process.start()
        its_end.close()

    def run(self, phase: GpuPhase, limit_s: float) -> Outcome:
        """Runs the phase for at most `limit_s` seconds. After a failure the process can only be ended."""
        outcome = Outcome(phase=phase.name)
        began = time.monotonic()
        try:
            self._connection.send(phase.name)
            self._receive(outcome, began + limit_s)
        except TimeoutError:
            outcome.failure = f"stopped: not done after {limit_s:.0f} s, expected {phase.seconds:.0f} s"
        except (EOFError, OSError):
            self._process.join()
            outcome.failure = (
                f"its process ended (exit code {self._process.exitcode}); see its messages above"
            )
        outcome.seconds = time.monotonic() - began
        return outcome

    def _receive(self, outcome: Outcome, end: float) -> None:
        while self._connection.poll(max(0.0, end - time.monotonic())):
            kind, value = self._connection.recv()
            if kind == "measured":
                outcome.measured.append(value)
            else:
                outcome.failure, outcome.peak_gb = value
                return
        raise TimeoutError

    def end(self) -> None:
        """Ends the process, whatever it does."""
        self._process.kill()
        self._process.join()
        self._connection.close()


def _serve(sources: Sources, connection: Connection) -> None:
    phases = {phase.name: phase for phase in collect(sources)}
    while True:
        try:
            name = connection.recv()
        except EOFError:  # the other side has ended
            return
        connection.send(("end", attempt(phases[name], lambda one: connection.send(("measured", one)))))


def attempt(phase: GpuPhase, report: Callable[[Any], None]) -> tuple[str, float]:
    """Runs a phase, reporting each number. Returns why it failed (empty: it did not), and its peak in GB."""
    from harness.gpu.clock import peak_gb, reset_peak

    failure = ""
    reset_peak()
    try:
        for measured in phase.run():
            report(measured)
    except Exception as error:
        traceback.print_exc(file=sys.stderr)
        lines = (str(error).strip() or "no message").splitlines()
        failure = f"{type(error).__name__}: {lines[0]}"[:MESSAGE]
    peak = peak_gb()
    free()
    return failure, peak


def free() -> None:
    """Returns memory that the last phase no longer uses."""
    import torch

    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
