from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from harness import status
from harness.stages import locks
from harness.stages.status import Status, StatusWriter, is_silent, read_status, write_status
from harness.types import Stage

ROOT = Path(__file__).resolve().parents[1]
STAGE = Stage(name="grpo", program="json.dumps", settings={})


@pytest.fixture
def outputs(tmp_path):
    """A study `toy`: a done, a failed and a silent cell, and a running shared stage."""
    study = tmp_path / "studies" / "toy"
    here = {"host": locks.me().host, "pid": os.getpid()}
    statuses = {
        "cells/a-s0": Status(state="done", stage="scores", reward=0.5),
        "cells/b-s0": Status(state="failed", error="Traceback\nValueError: no"),
        "cells/c-s0": Status(state="running", stage="grpo", step=3, total=9, host=here["host"], pid=_ended()),
        "shared/sft-1": Status(state="running", stage="sft", host=here["host"], pid=here["pid"]),
    }
    for folder, one in statuses.items():
        (study / folder).mkdir(parents=True)
        write_status(study / folder, one)
    cells = [{"id": f"{name}-s0", "folder": f"cells/{name}-s0"} for name in "abc"]
    (study / "plan.json").write_text(
        json.dumps({"study": {}, "command": "sweep", "created": "now", "cells": cells})
    )
    return tmp_path


def _ended() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_it_shows_every_planned_cell_and_calls_the_silent_one_lost(outputs, capsys):
    assert status.main(["toy", "--outputs", str(outputs)]) == 0
    title, *lines = capsys.readouterr().out.splitlines()
    assert title == "toy: 1 of 3 cells done, not running"
    assert [shown.split()[:2] for shown in lines[1:]] == [
        ["a-s0", "done"],
        ["b-s0", "failed"],
        ["c-s0", "lost"],
    ]
    assert lines[0].startswith("shared sft-1") and "running" in lines[0]
    assert lines[2].endswith("ValueError: no")


def test_it_names_who_runs_the_study(outputs, capsys):
    with locks.lock(outputs / "studies" / "toy" / "lock"):
        status.main(["--outputs", str(outputs)])
    assert f"run by process {os.getpid()} on" in capsys.readouterr().out


def test_an_unknown_study_is_answered_with_the_known_ones(outputs, capsys):
    assert status.main(["tox", "--outputs", str(outputs)]) == 2
    assert "no study 'tox'" in (said := capsys.readouterr().err) and "Known: toy" in said
    assert status.main(["--outputs", str(outputs / "none")]) == 2
    assert "harness.sweep" in capsys.readouterr().err


def test_it_needs_no_torch():
    code = "import sys, harness.status; sys.exit('torch' in sys.modules or 'hydra' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_a_job_writes_how_it_goes(tmp_path):
    with StatusWriter(tmp_path) as writer:
        assert read_status(tmp_path).state == "running"
        writer.wait(STAGE, replace(locks.me(), pid=77))
        waiting = read_status(tmp_path)
        assert waiting.state == "waiting" and "process 77" in (waiting.waits_for or "")
        writer.begin(STAGE)
        writer.progress(1, 4, {"reward": 0.25})
        time.sleep(0.02)
        writer.progress(4, 4, {"reward": None})
        now = read_status(tmp_path)
        assert (now.state, now.stage, now.step, now.total, now.reward, now.eta_s) == (
            "running",
            "grpo",
            4,
            4,
            0.25,
            0.0,
        )
        assert now.waits_for is None and now.pid == os.getpid() and now.started
        writer.end("done")
    assert read_status(tmp_path).state == "done"


def test_the_eta_counts_from_where_this_attempt_began(tmp_path, monkeypatch):
    with StatusWriter(tmp_path) as writer:
        writer.begin(STAGE)
        monkeypatch.setattr(time, "monotonic", lambda: 100.0)
        writer.progress(50, 100, {})
        assert writer.status.eta_s is None
        monkeypatch.setattr(time, "monotonic", lambda: 120.0)
        writer.progress(60, 100, {})
        assert writer.status.eta_s == 80.0


def test_the_eta_starts_again_where_a_stage_counts_something_else(tmp_path, monkeypatch):
    """As one that draws all pairs of a round, then trains on them."""
    reports = ((0, 1, 4), (10, 3, 4), (20, 1, 4), (100, 2, 4), (200, 1, 9))  # seconds, step, total
    etas = []
    with StatusWriter(tmp_path) as writer:
        writer.begin(STAGE)
        for now, step, total in reports:
            monkeypatch.setattr(time, "monotonic", lambda now=now: now)
            writer.progress(step, total, {})
            etas.append(writer.status.eta_s)
    assert etas == [None, 5.0, None, 160.0, None]


def test_quick_steps_are_not_all_written(tmp_path):
    with StatusWriter(tmp_path) as writer:
        writer.begin(STAGE)
        for step in range(1, 50):
            writer.progress(step, 100, {})
        assert (read_status(tmp_path).step or 0) < 49
        assert writer.status.step == 49


def test_a_job_leaves_the_status_to_the_process_that_has_taken_its_place(tmp_path):
    with StatusWriter(tmp_path) as writer:
        write_status(tmp_path, replace(writer.status, state="stopped"))
        writer.begin(STAGE)
        assert read_status(tmp_path).state == "running", "a sweep wrote, not another process of the job"
        write_status(tmp_path, replace(writer.status, host="node2", state="waiting"))
        writer.progress(4, 4, {})
        writer.end("failed", error="the lock is lost")
        assert (read_status(tmp_path).state, read_status(tmp_path).host) == ("waiting", "node2")
        write_status(tmp_path, Status())
        writer.end("failed")
        assert read_status(tmp_path).state == "failed", "nobody's"


def test_a_waiting_job_writes_its_status_once(tmp_path):
    with StatusWriter(tmp_path) as writer:
        writer.wait(STAGE, None)
        written = (tmp_path / "status.json").stat().st_mtime_ns
        time.sleep(0.02)
        writer.wait(STAGE, None)
        assert (tmp_path / "status.json").stat().st_mtime_ns == written
        writer.wait(STAGE, replace(locks.me(), pid=77))
        assert "process 77" in (read_status(tmp_path).waits_for or "")


def test_a_cell_of_another_host_is_silent_only_after_a_while(tmp_path):
    far = Status(state="running", host="far-away", pid=1)
    write_status(tmp_path, far)
    assert not is_silent(tmp_path, far)
    os.utime(tmp_path / "status.json", (0, 0))
    assert is_silent(tmp_path, far)
    assert not is_silent(tmp_path, replace(far, state="done"))


def test_a_damaged_plan_is_an_error_with_its_remedy(outputs, capsys):
    (outputs / "studies" / "toy" / "plan.json").write_text("{")
    assert status.main(["--outputs", str(outputs)]) == 1
    assert "plan.json is damaged" in capsys.readouterr().err
