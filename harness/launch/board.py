"""The cells of a study as they run: a live table on a terminal, lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from harness.stages.status import OVER, Status

LINE_EVERY_S = 25.0  # with the seconds between two looks at the jobs, at most 30
COLORS = {
    "done": "green",
    "failed": "red",
    "lost": "red",
    "running": "cyan",
    "queued": "yellow",
    "waiting": "yellow",
    "stopped": "yellow",
}


class Board:
    """Shows name -> status, again at every `show`."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._live = Live(console=Console(), auto_refresh=False) if sys.stdout.isatty() else None
        self._lines = StatusLines(LINE_EVERY_S, partial(print, flush=True))

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
            self._lines.show(name, status)


@dataclass
class _Printed:
    """The last line of a name: when its state and stage began, when the line was printed, and its text."""

    state: tuple[str, str | None]
    since: float
    at: float = float("-inf")
    text: str = ""


class StatusLines:
    """Prints a line for a name when its state or stage changes, and every `every_s` while it runs or waits.

    A line says how long the stage has been running, so it differs from the line before it.
    """

    def __init__(self, every_s: float, write: Callable[[str], object]) -> None:
        self._every_s, self._write = every_s, write
        self._printed: dict[str, _Printed] = {}

    def show(self, name: str, status: Status, *, last: bool = False) -> None:
        """Prints a line if one is due; `last` makes it due."""
        now, state = time.monotonic(), (status.state, status.stage)
        printed = self._printed.get(name)
        if printed is None or printed.state != state:
            printed = self._printed[name] = _Printed(state=state, since=now)
        elif not last and (
            status.state not in ("running", "waiting", "queued") or now - printed.at < self._every_s
        ):
            return
        text = line(name, status, elapsed_s=now - printed.since)
        if text != printed.text:
            printed.at, printed.text = now, text
            self._write(text)


def table(title: str, statuses: Mapping[str, Status]) -> Table:
    """A row for every name."""
    shown = Table(title=escape(title), title_justify="left")
    for head in ("cell", "state", "stage", "step", "reward", "ETA", "job"):
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
            escape(
                " ".join(filter(None, (status.job, status.waits_for and f"waits for {status.waits_for}")))
            ),
        )
    return shown


def line(name: str, status: Status, elapsed_s: float = 0.0) -> str:
    """One line such as `w_PI-s0-1f2e3d4c  running  grpo 12/60  reward 0.412  ETA 3m10s  elapsed 50s`."""
    fields = [f"{name:<28}", f"{status.state:<8}", " ".join(filter(None, (status.stage, _step(status))))]
    if status.reward is not None:
        fields.append(f"reward {_reward(status)}")
    if status.eta_s is not None:
        fields.append(f"ETA {_eta(status)}")
    if round(elapsed_s) > 0:
        fields.append(f"elapsed {duration(elapsed_s, to_the_second=True)}")
    if status.job and status.state not in OVER:
        fields.append(f"job {status.job}")
    if status.waits_for:
        fields.append(f"waits for {status.waits_for}")
    if status.error:
        fields.append(status.error.splitlines()[-1])
    return "  ".join(filter(None, fields)).rstrip()


def _step(status: Status) -> str:
    return "" if status.step is None else f"{status.step}/{status.total}"


def _reward(status: Status) -> str:
    return "" if status.reward is None else f"{status.reward:.3f}"


def _eta(status: Status) -> str:
    return "" if status.eta_s is None else duration(status.eta_s)


def duration(seconds_s: float, *, to_the_second: bool = False) -> str:
    """Such as `40s`, `3m10s` or `2h05m`; the last as `2h05m00s` where it is asked for to the second."""
    minutes, seconds = divmod(round(seconds_s), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes:02}m" + (f"{seconds:02}s" if to_the_second else "")
    return f"{minutes}m{seconds:02}s" if minutes else f"{seconds}s"
