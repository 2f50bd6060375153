"""Signals only ask; what obeys them ends without a loss of its work."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.stages import locks, stop
from harness.stages.program import Stoppable, run
from harness.stages.status import StatusWriter, read_status
from harness.stages.store import StageStore
from harness.types import Stage

NUMBERS = iter(range(99))
ENDED_AT_ONCE_S = 30.0


class Work(Stoppable):
    """A workspace that reports nothing."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def progress(self, step: int, total: int, metrics: Any = None) -> None:
        self._check(step, total)


@pytest.fixture(autouse=True)
def installed(handlers: None) -> None:
    stop.install()


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """The dotted path of a program with this body."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(body: str) -> str:
        name = f"stopped_{next(NUMBERS)}"
        lines = "\n".join(f"    {line}" for line in body.splitlines())
        text = f"import os, signal, time\ndef run(work, settings, inputs):\n{lines}\n"
        (tmp_path / f"{name}.py").write_text(text)
        return f"{name}.run"

    return write


def soon(number: int = signal.SIGTERM) -> None:
    threading.Timer(0.3, stop.request, [number]).start()


@pytest.mark.parametrize("number", stop.SIGNALS)
def test_a_program_without_steps_ends_at_once_though_it_catches_exceptions(
    made, tmp_path: Path, number: int
) -> None:
    path = made("try:\n    time.sleep(60)\nexcept Exception:\n    pass\nraise LookupError")
    soon(number)
    began = time.monotonic()
    with pytest.raises(stop.Stopped) as ended:
        run(path, Work(tmp_path), {}, {})
    assert time.monotonic() - began < ENDED_AT_ONCE_S
    assert ended.value.signal == number and ended.value.code == 1


def test_a_program_that_swallows_the_end_ends_when_it_reports(made, tmp_path: Path) -> None:
    path = made(
        "try:\n    os.kill(os.getpid(), signal.SIGTERM)\n    time.sleep(60)\nexcept BaseException: pass\n"
        "work.progress(1, 2)\n(work.folder / 'on').touch()"
    )
    with pytest.raises(stop.Stopped):
        run(path, Work(tmp_path), {}, {})
    assert not (tmp_path / "on").exists()


STEPS = """
for step in work.steps(0, 3):
    if step == 1:
        os.kill(os.getpid(), signal.SIGTERM)
        {again}
    work.progress(step + 1, 3)
    (work.folder / f"{{step}}").touch()
    work.stopping()
"""


def test_one_signal_that_arrives_twice_is_one_request(made, tmp_path: Path) -> None:
    with pytest.raises(stop.Stopped):
        run(made(STEPS.format(again="os.kill(os.getpid(), signal.SIGTERM)")), Work(tmp_path), {}, {})
    assert {file.name for file in tmp_path.glob("?")} == {"0", "1"}, "the step was finished"


def test_a_second_signal_ends_a_step_at_once(made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stop, "SAME_S", 0.0)
    with pytest.raises(stop.Stopped):
        run(made(STEPS.format(again="os.kill(os.getpid(), signal.SIGTERM)")), Work(tmp_path), {}, {})
    assert {file.name for file in tmp_path.glob("?")} == {"0"}


def test_a_program_does_not_begin_after_a_request(made, tmp_path: Path) -> None:
    os.kill(os.getpid(), signal.SIGUSR2)
    with pytest.raises(stop.Stopped):
        run(made("(work.folder / 'on').touch()"), Work(tmp_path), {}, {})
    assert not (tmp_path / "on").exists()


def test_the_next_stage_does_not_begin_after_a_request(made, tmp_path: Path) -> None:
    first = Stage(
        name="first",
        program=made("for step in work.steps(0, 1):\n    os.kill(os.getpid(), signal.SIGTERM)"),
        settings={},
    )
    last = Stage(name="last", program=made("raise LookupError"), settings={}, inputs={"first": first})
    store = StageStore(tmp_path / "stages")
    with pytest.raises(stop.Stopped), StatusWriter(tmp_path) as status:
        store.make(last, status)
    assert store.is_complete(first) and not store.is_complete(last)


def test_a_stage_that_another_process_makes_is_not_waited_for(made, tmp_path: Path) -> None:
    stage, store = Stage(name="x", program=made("pass"), settings={}), StageStore(tmp_path / "stages")
    path = store.folder(stage)
    soon()
    began = time.monotonic()
    held = locks.lock(path.with_name(path.name + ".lock"))
    with held, StatusWriter(tmp_path) as status, pytest.raises(stop.Stopped):
        store.make(stage, status)
    assert time.monotonic() - began < ENDED_AT_ONCE_S
    assert read_status(tmp_path).state == "waiting"


def test_signals_that_were_ignored_before_are_noted(tmp_path: Path) -> None:
    code = """
import os, signal
from harness.stages import stop
stop.install()
for number in stop.SIGNALS:
    os.kill(os.getpid(), number)
print(stop.requested())
"""
    ignoring = 'trap "" USR2 INT TERM; exec "$@"'
    said = subprocess.run(
        ["sh", "-c", ignoring, "sh", sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).resolve().parents[2],
    )
    assert said.stdout.strip() == str(int(signal.SIGUSR2))
