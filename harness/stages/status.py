"""`status.json`: the state and progress of a cell. Its job writes the file, all other commands read it."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from harness import processes
from harness.files import write_text
from harness.secrets import masked
from harness.stages import locks, stop
from harness.types import Stage

State = Literal["planned", "queued", "waiting", "running", "done", "failed", "lost", "stopped"]
OVER: frozenset[State] = frozenset({"done", "failed", "lost", "stopped"})
WRITE_EVERY_S = 1.0
HEARTBEAT_S = 20.0


@dataclass(frozen=True, kw_only=True)
class Status:
    """State and progress. `eta_s` is of the current stage; `waits_for` is the owner of an awaited lock."""

    state: State = "planned"
    stage: str | None = None
    step: int | None = None
    total: int | None = None
    reward: float | None = None
    eta_s: float | None = None
    waits_for: str | None = None
    started: str | None = None
    updated: str | None = None
    host: str | None = None
    pid: int | None = None
    job: str | None = None
    error: str | None = None


def read_status(folder: Path) -> Status:
    """The status in a cell's folder, or `planned` if there is no readable one: no result depends on it."""
    try:
        values = json.loads((folder / "status.json").read_text(encoding="utf-8"))
        return Status(**{field.name: values.get(field.name) for field in fields(Status)})
    except (OSError, ValueError, AttributeError):
        return Status()


def write_status(folder: Path, status: Status) -> None:
    """Writes the status into a cell's folder, with the time and without secrets in the error."""
    written = replace(status, updated=_now(), error=status.error and masked(status.error))
    write_text(folder / "status.json", json.dumps(asdict(written), indent=1))


def is_silent(folder: Path, status: Status, limit_s: float = 10 * HEARTBEAT_S) -> bool:
    """Whether a running cell lost its process: gone on this host, or without a sign of life on another."""
    if status.state not in ("running", "waiting") or status.pid is None:
        return False
    if status.host == socket.gethostname():
        return not processes.is_alive(status.pid)
    try:
        return time.time() - (folder / "status.json").stat().st_mtime > limit_s
    except OSError:  # unknown
        return False


class StatusWriter:
    """The `harness.stages.store.Reporter` of a job: keeps `status.json` up to date while the block runs.

    A request to stop ends the job between two stages, and while it waits for one that another process makes.
    The file decides no number. If it cannot be written, the job continues and the sweep shows older news.
    Once another process has begun to write it (the same job, queued again while this process was taken for
    dead), this one leaves it alone.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._last_written = 0.0
        self._stage_began = time.monotonic()
        self._first_step: int | None = None
        self._ended = threading.Event()
        self.stage: Stage | None = None
        owner = locks.me()
        self.status = Status(
            state="running",
            started=owner.since,
            host=owner.host,
            pid=owner.pid,
            job=owner.job,
            reward=read_status(folder).reward,
        )

    def __enter__(self) -> StatusWriter:
        with suppress(OSError):
            write_status(self._folder, self.status)
        threading.Thread(target=self._beat, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()

    def begin(self, stage: Stage) -> None:
        stop.check()
        self.stage = stage
        self._stage_began, self._first_step = time.monotonic(), None
        self._set(state="running", stage=stage.name, step=None, total=None, eta_s=None, waits_for=None)

    def wait(self, stage: Stage, owner: locks.Owner | None) -> None:
        stop.check()
        self.stage = stage
        name = str(owner or "another process")
        if (self.status.state, self.status.stage, self.status.waits_for) != ("waiting", stage.name, name):
            self._set(state="waiting", stage=stage.name, step=None, total=None, eta_s=None, waits_for=name)

    def progress(self, step: int, total: int, metrics: Mapping[str, float | int | None]) -> None:
        seen = self.status
        if self._first_step is None or total != seen.total or step < (seen.step or 0):
            # this attempt resumed there, or the stage now counts something else; how long it took is unknown
            self._first_step, self._stage_began = step, time.monotonic()
        changes: dict[str, float | int | None] = {"step": step, "total": total, "eta_s": None}
        if steps_done := step - self._first_step:
            seconds_per_step = (time.monotonic() - self._stage_began) / steps_done
            changes["eta_s"] = round(seconds_per_step * (total - step), 1)
        if metrics.get("reward") is not None:
            changes["reward"] = metrics["reward"]
        self._set(quietly=step < total, **changes)

    def end(self, state: State, error: str | None = None) -> None:
        self._set(state=state, eta_s=None, waits_for=None, error=error)

    def _set(self, *, quietly: bool = False, **changes: object) -> None:
        with self._lock:
            self.status = replace(self.status, **changes)  # type: ignore[arg-type]
            if not quietly or time.monotonic() - self._last_written > WRITE_EVERY_S:
                with suppress(OSError):
                    if self._is_ours():
                        write_status(self._folder, self.status)
                self._last_written = time.monotonic()

    def _beat(self) -> None:
        while not self._ended.wait(HEARTBEAT_S):
            with suppress(OSError):
                if self._is_ours():
                    os.utime(self._folder / "status.json")

    def _is_ours(self) -> bool:
        """Whether no other process has begun to write the file since."""
        there = read_status(self._folder)
        ours = self.status.host, self.status.pid, self.status.started
        return there.pid is None or (there.host, there.pid, there.started) == ours


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
