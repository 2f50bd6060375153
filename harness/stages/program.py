"""A stage's program at work: the function, the workspace it reports to, and the record of attempts."""

from __future__ import annotations

import importlib
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from harness import processes
from harness.files import write_rows, write_text
from harness.stages import process_group, stop

if TYPE_CHECKING:
    from harness.stages.locks import Lock
    from harness.stages.store import Reporter

ATTEMPT_SAVE_S = 2.0
ATTEMPTS = "attempts.json"
RESUME_FILES = "RESUME_FILES"  # the constant in which a program's module names what it resumes from

Result = TypeVar("Result")
Metrics = Mapping[str, float | int | None]
Program = Callable[[Any, dict[str, Any], dict[str, Path]], None]


def load_program(path: str) -> Program:
    """The function behind a dotted path. Its module is imported only now.

    Raises:
        ValueError: there is no such function.
    """
    module, _, name = path.rpartition(".")
    program = getattr(importlib.import_module(module), name, None)
    if not callable(program):
        raise ValueError(f"the program {path!r} of a stage must name a function of the module {module!r}")
    return program


def resume_files(path: str) -> tuple[str, ...]:
    """The files and folders that the program resumes from and that are no part of its result.

    Its module names them: `RESUME_FILES = ("training.pt",)`, relative to the stage's folder. A program leaves
    them there, and the store removes them once the stage has its final name.
    """
    module = importlib.import_module(path.rpartition(".")[0])
    return tuple(getattr(module, RESUME_FILES, ()))


def run(path: str, work: Any, settings: dict[str, Any], inputs: dict[str, Path]) -> None:
    """Runs the program behind a dotted path. A request to stop ends it as its workspace says.

    Raises:
        Stopped: a stop was requested, and the program has not finished.
    """
    program = load_program(path)
    with stop.at_once():
        program(work, settings, inputs)


class Stoppable:
    """The part of a `harness.protocols.Workspace` that requests to stop concern."""

    def __init__(self) -> None:
        self._takes_steps = False
        self._agreed = 0  # the signal on which all ranks stop
        self._reported = False  # whether the step has made progress

    def steps(self, first: int, total: int) -> Iterator[int]:
        self._takes_steps = True
        stop.hold()
        for step in range(first, total):
            self._reported = False
            yield step
            if self._agreed and (step + 1 < total or not self._reported):
                raise stop.Stopped(self._agreed)

    def stopping(self) -> bool:
        self._agreed = process_group.highest(stop.requested() or 0)
        return self._agreed > 0

    def interruptible(self, call: Callable[[], Result]) -> Result | None:
        with suppress(stop.Stopped), stop.at_once():
            return call()
        return None

    def _check(self, step: int, total: int) -> None:
        """Notes progress. Ends a program without steps if a stop was requested and something swallowed it."""
        self._reported = True
        if not self._takes_steps and step < total:
            stop.check()


class ReportingWorkspace(Stoppable):
    """The `harness.protocols.Workspace` of rank 0: writes `metrics.jsonl` and informs the reporter.

    Its `progress` raises `LostError` if the stage's lock is lost.
    """

    def __init__(self, folder: Path, reporter: Reporter, attempts: Attempts, lock: Lock) -> None:
        super().__init__()
        self.folder = folder
        self._reporter = reporter
        self._lock = lock
        self._attempts = attempts
        self._last_step: int | None = None

    def progress(self, step: int, total: int, metrics: Metrics | None = None) -> None:
        self._lock.check()
        if metrics is not None:
            self._write(step, metrics)
        self._attempts.save_sometimes()
        self._reporter.progress(step, total, metrics or {})
        self._check(step, total)

    def _write(self, step: int, metrics: Metrics) -> None:
        file = self.folder / "metrics.jsonl"
        if self._last_step is None or step <= self._last_step:
            _drop_lines_from(file, step)
        write_rows(file, [{"step": step, **metrics}], "a")
        self._last_step = step


class SilentWorkspace(Stoppable):
    """The `harness.protocols.Workspace` of the other ranks: rank 0 reports for all."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def progress(self, step: int, total: int, metrics: Metrics | None = None) -> None:
        self._check(step, total)


def _age_s() -> float:
    """Seconds since this process began; 0 where the system does not say."""
    ticks = processes.began(os.getpid())
    if ticks is None:
        return 0.0
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")


class Outside:
    """The time of this process outside programs: its start, imports, checks; not its waits for others."""

    def __init__(self) -> None:
        self._since = time.monotonic() - _age_s()

    def exclude(self, seconds: float) -> None:
        """Leaves out seconds that were spent on waiting for another process."""
        self._since += seconds

    def begin(self) -> float:
        """Seconds outside since the last program ended, or since the process began; a program begins now."""
        return round(max(0.0, time.monotonic() - self._since), 3)

    def end(self) -> None:
        """A program ends now."""
        self._since = time.monotonic()


outside = Outside()


class Attempts:
    """Seconds and memory of every attempt at a stage, kept in a file so that a kill does not lose them.

    `outside_s` are the seconds of the job before the program began, since its start or the stage before.
    They decide no number, so a file that is damaged or cannot be written is an attempt forgotten, no error.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        reset_peak_memory()
        self._begin = self._saved = time.monotonic()
        record = {"started": utc_now(), "seconds": 0.0, "outside_s": outside.begin(), "peak_mb": 0.0}
        self.records = [*_earlier_attempts(file), record]
        self.save()

    def save(self) -> None:
        self._saved = time.monotonic()
        self.records[-1]["seconds"] = round(self._saved - self._begin, 3)
        self.records[-1]["peak_mb"] = peak_memory_mb()
        with suppress(OSError):
            write_text(self.file, json.dumps(self.records))

    def save_sometimes(self) -> None:
        if time.monotonic() - self._saved > ATTEMPT_SAVE_S:
            self.save()

    def summary(self) -> dict[str, Any]:
        """What `stage.json` says of all attempts together."""
        return {
            "started": self.records[0]["started"],
            "finished": utc_now(),
            "seconds": round(sum(attempt["seconds"] for attempt in self.records), 3),
            "outside_s": round(sum(attempt["outside_s"] for attempt in self.records), 3),
            "peak_mb": max(attempt["peak_mb"] for attempt in self.records),
            "attempts": self.records,
        }


def _earlier_attempts(file: Path) -> list[dict[str, Any]]:
    try:
        records = json.loads(file.read_text(encoding="utf-8"))
        numbers = ("seconds", "outside_s", "peak_mb")
        return [{"started": one["started"], **{name: one[name] + 0.0 for name in numbers}} for one in records]
    except (OSError, ValueError, TypeError, KeyError):
        return []


def peak_memory_mb() -> float:
    """Highest resident memory of this process since `reset_peak_memory`, in MB."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return round(next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024, 1)
    except (OSError, StopIteration, ValueError, IndexError):  # no /proc, or another form of it
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return round(peak / (2**20 if sys.platform == "darwin" else 1024), 1)


def reset_peak_memory() -> None:
    """Makes `peak_memory_mb` start from here. Without /proc it stays the peak of the whole process."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    except OSError:
        return


def utc_now() -> str:
    """The time in UTC, to the second, in ISO form."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _drop_lines_from(file: Path, step: int) -> None:
    """Cuts a metrics file before the first line that is of `step` or later, or was cut short by a kill."""
    if not file.exists():
        return
    kept = 0
    with file.open("rb") as stream:
        for line in stream:
            try:
                is_earlier = line.endswith(b"\n") and json.loads(line)["step"] < step
            except ValueError:
                is_earlier = False
            if not is_earlier:
                break
            kept += len(line)
    os.truncate(file, kept)
