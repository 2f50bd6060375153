"""A job of Slurm as its status and squeue show it, with fakes of Slurm's commands."""

from __future__ import annotations

import os
from datetime import UTC, datetime

import pytest

from harness.launch.handle import SlurmHandle
from harness.launch.queue import Queue
from harness.stages.status import Status, read_status, write_status
from tests.launch.conftest import listed


@pytest.fixture
def handle(slurm, tmp_path, monkeypatch):
    monkeypatch.setattr("harness.launch.queue.ASK_EVERY_S", 0.0)
    return SlurmHandle("7_1", tmp_path, Queue(), logs=tmp_path, since=datetime.now(UTC))


def test_a_job_that_slurm_twice_does_not_list_is_over(slurm, handle, tmp_path):
    write_status(tmp_path, Status(state="running", job="7_1"))
    listed(slurm, "7_0", "7_1")
    assert not handle.is_over()
    listed(slurm, "7_0")
    assert not handle.is_over()
    assert handle.is_over()


def test_where_slurm_cannot_be_asked_a_job_is_over_when_it_gives_no_sign_of_life(slurm, handle, tmp_path):
    (slurm / "squeue").write_text("#!/bin/sh\necho 'Unable to contact slurm controller' >&2; exit 1\n")
    write_status(tmp_path, Status(state="running", host="node7", pid=1, job="7_1"))
    assert not handle.is_over() and not handle.is_over()
    os.utime(tmp_path / "status.json", (0, 0))
    assert not handle.is_over()
    assert handle.is_over()


def test_only_the_last_word_of_the_job_itself_counts(slurm, handle, tmp_path):
    listed(slurm, "7_1")
    write_status(tmp_path, Status(state="failed", job="6_1"))
    assert not handle.is_over() and handle.seen(read_status(tmp_path)).state == "queued"
    write_status(tmp_path, Status(state="failed", job="7_1"))
    assert handle.is_over() and handle.seen(read_status(tmp_path)).state == "failed"


def test_a_job_that_was_stopped_and_is_queued_again_is_not_over(slurm, handle, tmp_path):
    write_status(tmp_path, Status(state="stopped", job="7_1"))
    listed(slurm, "7_1")
    assert not handle.is_over()
    seen = handle.seen(read_status(tmp_path))
    assert seen.state == "queued" and seen.waits_for == "Slurm (Priority)"
    listed(slurm)
    assert handle.is_over()


def test_what_slurm_listed_before_the_submission_says_nothing_of_a_job(slurm, tmp_path):
    asked = Queue()
    asked.ask()
    handle = SlurmHandle("7_1", tmp_path, asked, logs=tmp_path, since=datetime.now(UTC))
    assert not handle.is_over() and not handle.is_over()
    assert handle.seen(Status()).state == "queued"


def test_a_job_that_slurm_no_longer_lists_is_shown_as_before_until_it_is_known_to_be_over(
    slurm, handle, tmp_path
):
    listed(slurm, "7_1")
    assert not handle.is_over() and handle.seen(Status()).waits_for == "Slurm (Priority)"
    listed(slurm)
    assert not handle.is_over() and handle.seen(Status()).waits_for == "Slurm (Priority)"
    assert handle.is_over()


def test_a_held_job_is_shown_with_what_to_do(slurm, handle, tmp_path):
    (slurm / "queue").write_text("7_1|PENDING|launch failed requeued held|/x/jobs/token/x.sh\n")
    assert not handle.is_over()
    assert "scontrol release 7_1" in (handle.seen(Status()).waits_for or "")


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("JobId=9 ArrayJobId=7 ArrayTaskId=1 JobState=TIMEOUT RunTime=00:05:00", "time limit"),
        ("JobId=9 ArrayJobId=7 ArrayTaskId=0-3%2 JobState=CANCELLED RunTime=00:00:00", "before it started"),
        ("JobId=9 ArrayJobId=7 ArrayTaskId=1 JobState=FAILED ExitCode=127:0", "exit code 127"),
        ("JobId=9 ArrayJobId=7 ArrayTaskId=1 JobState=FAILED ExitCode=0:9", "was ended by signal 9"),
        ("JobId=9 ArrayJobId=7 ArrayTaskId=2 JobState=TIMEOUT", "exited without reporting"),
        ("", "exited without reporting"),
    ],
)
def test_a_lost_job_ends_with_what_slurm_knows(slurm, handle, tmp_path, said, expected):
    (slurm / "job").write_text(said)
    (tmp_path / "7_1_0_log.err").write_text("bash: /gone/python: No such file or directory\n")
    lines = handle.ending()
    assert lines[0] == "bash: /gone/python: No such file or directory"
    assert expected in lines[-1]
    assert ("before Python started" in lines[-1]) == ("CANCELLED" not in said)
