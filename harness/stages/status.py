"""`status.json`: how a cell is doing, written by its job and read by everybody else."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from harness.files import write_text
from harness.stages import locks
from harness.types import Stage

State = Literal["planned", "waiting", "running", "done", "failed", "lost", "stopped"]
OVER: frozenset[State] = frozenset({"done", "failed", "lost", "stopped"})
WRITE_EVERY_S = 1.0
HEARTBEAT_S = 20.0


@dataclass(frozen=True, kw_only=True)
class Status:
    """`eta_s` is for the stage at hand; `waits_for` names the owner of the lock that is waited for."""

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
    """The status of a cell's folder; `planned` where nothing readable is written: it is news, no result depends on it."""
    try:
        found = json.loads((folder / "status.json").read_text(encoding="utf-8"))
        return Status(**{field.name: found.get(field.name) for field in fields(Status)})
    except (FileNotFoundError, ValueError, AttributeError):
        return Status()


def write_status(folder: Path, status: Status) -> None:
    write_text(folder / "status.json", json.dumps(asdict(replace(status, updated=_now())), indent=1))


def is_silent(folder: Path, status: Status, limit_s: float = 10 * HEARTBEAT_S) -> bool:
    """Whether a cell that says it runs has lost its process: gone on this host, or no sign of life from another."""
    if status.state not in ("running", "waiting") or status.pid is None:
        return False
    if status.host == socket.gethostname():
        return not locks.is_alive(status.pid)
    return time.time() - (folder / "status.json").stat().st_mtime > limit_s


class StatusWriter:
    """The reporter of a job (`harness.stages.store.Reporter`): keeps `status.json` fresh while the block runs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._written = 0.0
        self._stage_began = time.monotonic()
        self._first_step: int | None = None
        self._stop = threading.Event()
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
        self._set()
        threading.Thread(target=self._beat, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()

    def begin(self, stage: Stage) -> None:
        self._stage_began, self._first_step = time.monotonic(), None
        self._set(state="running", stage=stage.name, step=None, total=None, eta_s=None, waits_for=None)

    def wait(self, stage: Stage, owner: locks.Owner | None) -> None:
        self._set(
            state="waiting",
            stage=stage.name,
            step=None,
            total=None,
            eta_s=None,
            waits_for=str(owner or "another process"),
        )

    def progress(self, step: int, total: int, metrics: Mapping[str, float | int | None]) -> None:
        if (
            self._first_step is None
        ):  # the first step tells where this attempt goes on, its duration is unknown
            self._first_step, self._stage_began = step, time.monotonic()
        done = step - self._first_step
        eta = (time.monotonic() - self._stage_began) / done * (total - step) if done else None
        changes = {"step": step, "total": total, "eta_s": None if eta is None else round(eta, 1)}
        if metrics.get("reward") is not None:
            changes["reward"] = metrics["reward"]
        self._set(quietly=step < total, **changes)

    def end(self, state: State, error: str | None = None) -> None:
        self._set(state=state, eta_s=None, waits_for=None, error=error)

    def _set(self, *, quietly: bool = False, **changes: object) -> None:
        with self._lock:
            self.status = replace(self.status, **changes)  # type: ignore[arg-type]
            if not quietly or time.monotonic() - self._written > WRITE_EVERY_S:
                write_status(self._folder, self.status)
                self._written = time.monotonic()

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT_S):
            try:
                os.utime(self._folder / "status.json")
            except OSError:
                continue


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
