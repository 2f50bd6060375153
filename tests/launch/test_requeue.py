"""A job at its time limit is queued again, or ends with one line that says why; its checkpoint stays."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from submitit.core.utils import DelayedSubmission, JobPaths
from submitit.slurm.slurm import SlurmJobEnvironment

from harness.launch import requeue
from harness.launch.job import Job, write_spec
from harness.stages.status import read_status
from harness.types import Stage

PROGRAM = """
import os, signal, time
RESUME_FILES = ("training.pt",)
def run(work, settings, inputs):
    (work.folder / "training.pt").write_text("step 3")
    try:
        os.kill(os.getpid(), signal.SIGUSR2)
        time.sleep(60)
    except Exception:
        pass
"""
SIGNALS = (signal.SIGUSR2, signal.SIGTERM, signal.SIGCONT)


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Path]]:
    """Makes a job that submitit has started in this process; its program is at the time limit."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    name = f"limited_{abs(hash(tmp_path))}"
    (tmp_path / f"{name}.py").write_text(PROGRAM)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("SLURM_JOB_ID", "4242")
    monkeypatch.setenv("PATH", str(tmp_path / "slurm"), prepend=os.pathsep)
    (tmp_path / "slurm").mkdir()

    def make(scontrol: str | None, *, requeues: int = 20) -> Path:
        if scontrol is not None:
            (tmp_path / "slurm" / "scontrol").write_text(f"#!/bin/sh\n{scontrol}\n")
            (tmp_path / "slurm" / "scontrol").chmod(0o755)
        folder = tmp_path / "job"
        write_spec(folder, tmp_path / "stages", Stage(name="grpo", program=f"{name}.run", settings={}))
        delayed = DelayedSubmission(Job(sweep=None), str(folder))
        delayed.set_timeout(0, requeues)
        SlurmJobEnvironment()._handle_signals(JobPaths(tmp_path / "logs", job_id="4242"), delayed)
        (tmp_path / "logs").mkdir()
        return folder

    yield make
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("scontrol", "requeues", "said"),
    [
        ("echo 'slurm_update error: Requested operation is presently disabled' >&2; exit 1", 20, "disabled"),
        ("sleep 600", 20, "gave no answer within"),
        (None, 20, "cannot be run"),
        ("exit 0", 0, "timed-out too many times"),
    ],
)
def test_a_job_that_is_not_queued_again_ends_with_one_line_and_keeps_its_checkpoint(
    job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys, scontrol, requeues: int, said: str
) -> None:
    monkeypatch.setattr(requeue, "TIMEOUT_S", 0.5)
    if scontrol is None:
        monkeypatch.setenv("PATH", str(tmp_path / "slurm"))
    folder = job(scontrol, requeues=requeues)
    assert Job(sweep=None)(str(folder)) is False
    status, shown = read_status(folder), capsys.readouterr()
    assert status.state == "failed" and said in str(status.error)
    assert "run the same command again" in str(status.error) and "\n" not in str(status.error)
    assert f"error: {status.error}" in shown.err and "Traceback" not in shown.err
    (unfinished,) = (tmp_path / "stages").glob("grpo-*.part")
    assert (unfinished / "training.pt").read_text() == "step 3"


def test_a_job_at_its_limit_is_queued_again(job, tmp_path: Path) -> None:
    folder = job(f'echo "$@" > {tmp_path}/asked')
    with pytest.raises(SystemExit) as ended:
        Job(sweep=None)(str(folder))
    assert not isinstance(ended.value, requeue.NotRequeued)
    assert (tmp_path / "asked").read_text() == "requeue 4242\n"
    assert read_status(folder).state == "running", "the sweep waits for it"
    assert list((tmp_path / "logs").glob("*submitted.pkl"))
