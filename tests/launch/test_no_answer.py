"""A Slurm that does not answer is unknown: no traceback, and no job is cancelled for it."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness import processes
from harness.launch import jobs, queue, slurm
from harness.launch.handle import SlurmHandle
from harness.launch.local import Local
from harness.launch.queue import Queue
from harness.stages import locks
from harness.stages.status import Status, read_status, write_status


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on PATH, for fake commands; nothing waits for an answer for long."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    monkeypatch.setattr(
        "harness.processes.ask.__kwdefaults__", {**processes.ask.__kwdefaults__, "timeout_s": 0.3}
    )
    monkeypatch.setattr("harness.launch.queue.ASK_EVERY_S", 0.0)
    monkeypatch.setattr("harness.launch.queue.ANSWER_S", 0.3)
    return folder


def offer(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)


HANGS = "sleep 60"
REFUSES = "echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1"
DIES = "kill -9 $$"


@pytest.mark.parametrize("answer", [HANGS, REFUSES, DIES, "exit 127"])
def test_a_job_whose_state_slurm_does_not_tell_is_not_over(
    commands: Path, tmp_path: Path, answer: str
) -> None:
    offer(commands, "squeue", answer)
    write_status(tmp_path, Status(state="running", host="node7", pid=1))
    handle = SlurmHandle("7", tmp_path, Queue(), logs=tmp_path, since=datetime.now(UTC))
    assert locks.slurm_lists("7") is None
    assert [handle.is_over() for _ in range(4)] == [False] * 4


@pytest.mark.parametrize(
    ("answer", "known"),
    [
        ("exit 0", True),
        ("echo 'scancel: error: Kill job error on job id 7: Invalid job id specified' >&2; exit 1", True),
        (HANGS, False),
        (REFUSES, False),
    ],
)
def test_a_cancellation_is_known_or_not(commands: Path, tmp_path: Path, answer: str, known: bool) -> None:
    offer(commands, "scancel", answer)
    assert queue.cancel(["7"]) == ([] if known else ["7"])


def test_a_slurm_without_scancel_gives_no_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert queue.cancel(["7"]) == ["7"]


class Handle:
    id = "4242"

    cancelled = False

    def is_over(self) -> bool:
        return False

    def seen(self, status: Status) -> Status:
        return status


@pytest.fixture
def launched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`launched(error, goes_on)` runs one task until the sweep raises `error`; returns the job's handle."""

    def launch(error: BaseException, *, goes_on: bool, cancels: bool = True) -> Handle:
        handle, folder = Handle(), tmp_path / "cell"
        folder.mkdir()
        task = SimpleNamespace(name="full", folder=folder, stage=None, needs=(), shared=False)
        study = SimpleNamespace(
            name="s",
            folder=tmp_path / "study",
            cells=[SimpleNamespace(id="full")],
            folder_of=lambda cell: folder,
            group_writable=False,
            facts={},
            store=SimpleNamespace(root=tmp_path),
            command="python -m harness.sweep",
        )

        def submit(*_: object) -> dict[str, Handle]:
            write_status(folder, Status(state="running"))
            return {"full": handle}

        def cancel(running: dict[str, Handle], _: object) -> dict[str, Handle]:
            handle.cancelled = cancels
            return {} if cancels else running

        cluster = SimpleNamespace(
            poll_s=0,
            jobs_go_on=goes_on,
            wait=True,
            adopt=lambda *_: {},
            finish=lambda _: None,
            startable=lambda waiting, running: waiting,
            submit=submit,
            cancel=cancel,
        )
        monkeypatch.setattr(jobs, "tasks_of", lambda study: [task])
        monkeypatch.setattr(jobs, "_frozen", lambda study, tasks: None)
        monkeypatch.setattr(jobs, "write_spec", lambda *given: None)

        def show(*given: object) -> None:
            raise error

        monkeypatch.setattr(jobs.Board, "show", show)
        with pytest.raises(type(error)):
            jobs.launch(study, cluster, SimpleNamespace(check=lambda: None), None)
        return handle

    return launch


def test_an_error_of_the_sweep_cancels_no_job_that_goes_on_by_itself(
    launched: Any, tmp_path: Path, capsys: Any
) -> None:
    assert launched(UnicodeEncodeError("ascii", "é", 0, 1, "no"), goes_on=True).cancelled is False
    assert read_status(tmp_path / "cell").state == "running"
    said = capsys.readouterr().err
    assert "these jobs continue: 4242 (full)" in said and "python -m harness.status s" in said


def test_an_error_of_the_sweep_ends_jobs_that_live_with_it(launched: Any, tmp_path: Path) -> None:
    assert launched(OSError(5, "Input/output error"), goes_on=False).cancelled is True
    assert read_status(tmp_path / "cell").state == "stopped"
    assert Local.jobs_go_on is False and slurm.Slurm.jobs_go_on is True


def test_ctrl_c_cancels_jobs_and_says_which_are_not_known_to_end(
    launched: Any, tmp_path: Path, capsys: Any
) -> None:
    launched(KeyboardInterrupt(), goes_on=True, cancels=False)
    assert read_status(tmp_path / "cell").state == "running"
    assert "4242 (full). To cancel them: scancel 4242" in capsys.readouterr().err
