"""A stopped job: queued again at its time limit while it makes progress, else ended with one clear line."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.launch import requeue
from harness.launch.job import Job, write_spec
from harness.stages.status import read_status
from harness.types import Stage

PROGRAM = """
import json, os, signal, time
RESUME_FILES = ("training.pt",)
def run(work, settings, inputs):
    saved = work.folder / "training.pt"
    done = int(saved.read_text()) if saved.is_file() else 0
    for step in work.steps(done, 10):
        steps = json.loads(os.environ["STOP_AT"])
        if not steps:
            os.kill(os.getpid(), getattr(signal, os.environ["SIGNAL"]))
            raise Exception("no step is ever made")
        if step + 1 == steps[0]:
            os.kill(os.getpid(), getattr(signal, os.environ["SIGNAL"]))
        work.progress(step + 1, 10)
        if work.stopping():
            saved.write_text(str(step + 1))
def swallow(work, settings, inputs):
    try:
        os.kill(os.getpid(), getattr(signal, os.environ["SIGNAL"]))
        time.sleep(60)
    except Exception:
        pass
"""


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Makes a job whose program gets a signal, and runs it in this process."""
    name = f"limited_{abs(hash(tmp_path))}"
    (tmp_path / f"{name}.py").write_text(PROGRAM)
    (tmp_path / "slurm").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("SLURM_JOB_ID", "4242")
    monkeypatch.setenv("PATH", str(tmp_path / "slurm"), prepend=os.pathsep)
    folder = tmp_path / "job"

    def run(
        program: str = "run",
        *,
        stop_at: list[int] | None = None,
        by: str = "SIGUSR2",
        requeues: int = 20,
        scontrol: str | None = "exit 0",
    ) -> Any:
        if scontrol is not None:
            (tmp_path / "slurm" / "scontrol").write_text(f"#!/bin/sh\n{scontrol}\n")
            (tmp_path / "slurm" / "scontrol").chmod(0o755)
        monkeypatch.setenv("SIGNAL", by)
        monkeypatch.setenv("STOP_AT", json.dumps(stop_at or [3]))
        write_spec(folder, tmp_path / "stages", Stage(name="grpo", program=f"{name}.{program}", settings={}))
        with pytest.raises(SystemExit) as ended:
            Job(sweep=None, requeues=requeues)([str(folder)])
        assert ended.value.code == 1, "Slurm's afterok holds dependent jobs back"
        return read_status(folder)

    return run


@pytest.mark.parametrize(
    ("scontrol", "said"),
    [
        ("echo 'slurm_update error: Requested operation is presently disabled' >&2; exit 1", "disabled"),
        ("sleep 600", "gave no answer within"),
        (None, "cannot be run"),
    ],
)
def test_a_job_that_is_not_queued_again_ends_with_one_line_and_keeps_its_checkpoint(
    job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys, scontrol, said: str
) -> None:
    monkeypatch.setattr(requeue, "TIMEOUT_S", 0.5)
    if scontrol is None:
        monkeypatch.setenv("PATH", str(tmp_path / "slurm"))
    status, shown = job(scontrol=scontrol), capsys.readouterr()
    assert status.state == "failed" and said in str(status.error)
    assert "run the same command again" in str(status.error) and "\n" not in str(status.error)
    assert f"error: {status.error}" in shown.err and "Traceback" not in shown.err
    (unfinished,) = (tmp_path / "stages").glob("grpo-*.part")
    assert (unfinished / "training.pt").read_text() == "3"


@pytest.mark.parametrize("array", [False, True])
def test_a_job_at_its_limit_is_queued_again(job, tmp_path: Path, monkeypatch, array: bool) -> None:
    if array:
        monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "4240")
        monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "0")
    status = job(scontrol=f'echo "$@" > {tmp_path}/asked')
    asked = "4240_0" if array else "4242"
    assert (tmp_path / "asked").read_text() == f"requeue {asked}\n"
    assert status.state == "stopped" and f"job {asked} has reached its time limit" in str(status.error)


def test_a_requeue_that_ends_scontrol_itself_is_no_refusal(job) -> None:
    assert job(scontrol="kill -TERM $$").state == "stopped"


def test_only_limits_without_progress_count(job) -> None:
    for step in (3, 4, 5):
        assert job(stop_at=[step], requeues=0).state == "stopped"
    swallowing = [job("swallow", requeues=1).state for _ in range(3)]
    assert swallowing == ["stopped", "stopped", "failed"], "the first limit of another stage is progress"


def test_the_limit_names_its_setting_and_ends_with_the_next_command(job, monkeypatch) -> None:
    job("swallow", requeues=0)
    refused = job("swallow", requeues=0)
    assert refused.state == "failed"
    assert "cluster.requeues=0 times without progress" in str(refused.error)
    assert "run the same command again" in str(refused.error)
    monkeypatch.setenv("SLURM_JOB_ID", "4243")
    assert job("swallow", requeues=0).state == "stopped"


@pytest.mark.parametrize(("by", "slurm"), [("SIGTERM", True), ("SIGINT", True), ("SIGUSR2", False)])
def test_other_signals_stop_a_job_and_ask_slurm_for_nothing(
    job, tmp_path: Path, monkeypatch, by: str, slurm: bool
) -> None:
    if not slurm:
        monkeypatch.delenv("SLURM_JOB_ID")
    status = job(by=by, scontrol=f"touch {tmp_path}/asked")
    assert status.state == "stopped" and f"{by} has stopped the job" in str(status.error)
    assert status.step == 3 and not (tmp_path / "asked").exists()
