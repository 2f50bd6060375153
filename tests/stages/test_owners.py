"""Whether the owner of a lock is alive: by its machine, by Slurm, or by its heartbeat."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from harness.stages import locks, owners


def _write_owner(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(asdict(replace(locks.me(), **changes))))


def _age(path: Path) -> None:
    """Makes the last heartbeat older than a live owner's can be."""
    long_ago = time.time() - locks.DEAD_AFTER_S - 1
    os.utime(path, (long_ago, long_ago))


ANSWERS = "echo 'NodeName=node7 Arch=x86_64'; echo '   State=MIXED+DRAIN ThreadsPerCore=1'"
SILENT = "echo 'NodeName=node7 Arch=x86_64'; echo '   State=DOWN* ThreadsPerCore=1'"
UNKNOWN_JOB = "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1"
NO_CONTROLLER = "echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1"


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Sets what squeue and scontrol answer; each of their calls is a line in `tmp_path/asked`."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    monkeypatch.setattr(owners, "_known", {})

    def answer(squeue: str, scontrol: str) -> None:
        for name, text in (("squeue", squeue), ("scontrol", scontrol)):
            (folder / name).write_text(f'#!/bin/sh\necho {name} "$@" >> {tmp_path}/asked\n{text}\n')
            (folder / name).chmod(0o755)

    return answer


@pytest.mark.parametrize(
    ("squeue", "scontrol", "held", "held_in_the_end"),
    [
        ("echo RUNNING", ANSWERS, True, True),
        ("echo COMPLETING", SILENT, True, True),
        ("true", ANSWERS, False, False),
        (UNKNOWN_JOB, ANSWERS, False, False),
        ("echo PENDING", ANSWERS, False, False),
        ("echo CANCELLED", ANSWERS, False, False),
        ("echo NODE_FAIL", SILENT, True, False),
        ("true", SILENT, True, False),
        ("echo PENDING", SILENT, True, False),
        ("true", "echo 'Node node7 not found'; exit 1", True, False),
        ("true", NO_CONTROLLER, True, False),
        (NO_CONTROLLER, ANSWERS, True, False),
    ],
)
def test_an_owner_in_a_job_is_dead_once_slurm_has_ended_it_on_a_node_that_answers(
    tmp_path, slurm, squeue, scontrol, held, held_in_the_end
):
    """Where Slurm does not know, the heartbeat decides."""
    path = tmp_path / "lock"
    _write_owner(path, host="host7", node="node7", job="123_4")
    slurm(squeue, scontrol)
    assert locks.is_held(path) is held
    _age(path)
    assert locks.is_held(path) is held_in_the_end
    asked = (tmp_path / "asked").read_text().splitlines()
    assert asked[0] == "squeue -h -j 123_4 -o %T" and asked[1:] in ([], ["scontrol show node node7"])


@pytest.mark.parametrize(("scontrol", "held"), [(ANSWERS, False), (SILENT, True)])
def test_a_requeued_job_takes_its_own_lock_back_if_the_node_of_its_earlier_run_answers(
    tmp_path, slurm, monkeypatch, scontrol, held
):
    path = tmp_path / "lock"
    slurm("echo RUNNING", scontrol)
    monkeypatch.setenv("SLURM_JOB_ID", "123")
    _write_owner(path, host="node7")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert locks.is_held(path) is held
    _age(path)
    with locks.lock(path) as ours:
        assert (ours.owner.job, ours.owner.restarts) == ("123", "1")


def test_a_process_of_the_same_run_of_the_job_on_another_node_is_alive_while_it_touches_the_file(
    tmp_path, slurm, monkeypatch
):
    path = tmp_path / "lock"
    slurm("echo RUNNING", ANSWERS)
    monkeypatch.setenv("SLURM_JOB_ID", "123")
    _write_owner(path, host="node7")
    with pytest.raises(locks.Held, match="node7"), locks.lock(path):
        pass


def test_slurm_is_asked_for_an_owner_once_in_half_a_minute(tmp_path, slurm, monkeypatch):
    path = tmp_path / "lock"
    _write_owner(path, host="node7", job="123")
    slurm("echo RUNNING", ANSWERS)
    assert [locks.is_held(path) for _ in range(5)] == [True] * 5
    assert (tmp_path / "asked").read_text().count("squeue") == 1
    _write_owner(path, host="node8", job="123")
    assert locks.is_held(path)
    assert (tmp_path / "asked").read_text().count("squeue") == 2, "another owner is another question"
    monkeypatch.setattr(owners, "ASK_EVERY_S", 0.0)
    assert locks.is_held(path)
    assert (tmp_path / "asked").read_text().count("squeue") == 3


@pytest.mark.parametrize(
    ("variables", "job"),
    [
        ({}, None),
        ({"SLURM_JOB_ID": "7"}, "7"),
        ({"SLURM_JOB_ID": "9", "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "0"}, "7_0"),
    ],
)
def test_a_job_is_named_as_squeue_names_it(monkeypatch, variables, job):
    for name in ("SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert locks.job_id() == job == locks.me().job


def test_another_process_with_the_number_of_a_dead_owner_is_not_the_owner(tmp_path):
    path = tmp_path / "lock"
    _write_owner(path, pid=os.getppid(), start="1")
    assert not locks.is_held(path), "its start is another"
    _write_owner(path, pid=os.getppid(), start=None)
    assert locks.is_held(path), "an earlier version did not write when the process began"
    _age(path)
    assert not locks.is_held(path), "it lives, but the kernel says that it has let the lock go"


def test_a_lock_file_of_an_earlier_version_is_read(tmp_path):
    path = tmp_path / "lock"
    path.write_text(
        '{"host": "a", "pid": 7, "job": "3", "since": "2026-01-01T00:00:00+00:00", "flock": true}'
    )
    assert str(locks.owner_of(path)) == "process 7 on a, Slurm job 3, since 2026-01-01T00:00:00+00:00"
