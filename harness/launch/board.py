"""The cells of a study as they run: a live table on a terminal, else a line for every change."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from harness.stages.status import Status

LINE_EVERY_S = 30.0
COLORS = {
    "done": "green",
    "failed": "red",
    "lost": "red",
    "running": "cyan",
    "waiting": "yellow",
    "stopped": "yellow",
}


class Board:
    """Shows name -> status, again at every `show`."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._live = Live(console=Console(), auto_refresh=False) if sys.stdout.isatty() else None
        self._said: dict[str, tuple[tuple[str | None, ...], float]] = {}

    def __enter__(self) -> Board:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def show(self, statuses: Mapping[str, Status]) -> None:
        if self._live:
            self._live.update(table(self._title, statuses), refresh=True)
            return
        for name, status in statuses.items():
            mark, now = (status.state, status.stage), time.monotonic()
            said, when = self._said.get(name, (None, 0.0))
            if mark != said or (status.state in ("running", "waiting") and now - when > LINE_EVERY_S):
                self._said[name] = (mark, now)
                print(line(name, status), flush=True)


def table(title: str, statuses: Mapping[str, Status]) -> Table:
    shown = Table(title=escape(title), title_justify="left")
    for head in ("cell", "state", "stage", "step", "reward", "ETA"):
        shown.add_column(head, justify="right" if head in ("step", "reward", "ETA") else "left", no_wrap=True)
    for name, status in statuses.items():
        color = COLORS.get(status.state, "white")
        shown.add_row(
            escape(name),
            f"[{color}]{status.state}[/{color}]",
            status.stage or "",
            _step(status),
            _reward(status),
            _eta(status),
        )
    return shown


def line(name: str, status: Status) -> str:
    """One line such as `w_PI-s0-1f2e3d4c  running  grpo 12/60  reward 0.412  ETA 3m10s`."""
    parts = [f"{name:<28}", f"{status.state:<8}", " ".join(filter(None, (status.stage, _step(status))))]
    if status.reward is not None:
        parts.append(f"reward {_reward(status)}")
    if status.eta_s is not None:
        parts.append(f"ETA {_eta(status)}")
    if status.waits_for:
        parts.append(f"waits for {status.waits_for}")
    if status.error:
        parts.append(status.error.splitlines()[-1])
    return "  ".join(part for part in parts if part).rstrip()


def _step(status: Status) -> str:
    return "" if status.step is None else f"{status.step}/{status.total}"


def _reward(status: Status) -> str:
    return "" if status.reward is None else f"{status.reward:.3f}"


def _eta(status: Status) -> str:
    return "" if status.eta_s is None else duration(status.eta_s)


def duration(seconds_s: float) -> str:
    """Such as `40s`, `3m10s` or `2h05m`."""
    minutes, seconds = divmod(round(seconds_s), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m" if hours else f"{minutes}m{seconds:02}s" if minutes else f"{seconds}s"
