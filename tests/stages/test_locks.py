from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from harness import processes
from harness.stages import locks, owners

ROOT = Path(__file__).resolve().parents[2]
HOLD = """
import sys, time
from pathlib import Path
from harness.stages import locks
with locks.lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock `tmp_path/lock`."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "lock")], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def _write_owner(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(asdict(replace(locks.me(), **changes))))


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


def test_a_lock_names_its_owner_and_is_gone_afterwards(tmp_path):
    path = tmp_path / "lock"
    with locks.lock(path):
        owner = locks.owner_of(path)
        assert owner is not None and owner.pid == os.getpid()
        assert locks.is_held(path)
    assert not path.exists()
    assert not locks.is_held(path)


def test_a_second_process_is_refused_and_learns_the_owner(tmp_path, holder):
    with pytest.raises(locks.Held) as refused, locks.lock(tmp_path / "lock"):
        pass
    assert refused.value.owner is not None and refused.value.owner.pid == holder.pid
    assert f"process {holder.pid} on" in str(refused.value)


def test_a_killed_owner_loses_the_lock_at_once(tmp_path, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (tmp_path / "lock").exists()
    with locks.lock(tmp_path / "lock"):
        owner = locks.owner_of(tmp_path / "lock")
        assert owner is not None and owner.pid == os.getpid()


def test_waiting_ends_when_the_owner_does(tmp_path, holder):
    seen = []

    def on_wait(owner):
        seen.append(owner.pid)
        holder.kill()

    with locks.wait_for(tmp_path / "lock", on_wait, poll_s=0.05):
        pass
    assert set(seen) == {holder.pid}


def test_the_lock_is_released_when_the_block_raises(tmp_path):
    with pytest.raises(RuntimeError), locks.wait_for(tmp_path / "lock", print):
        raise RuntimeError
    assert not locks.is_held(tmp_path / "lock")


def test_an_owner_on_another_host_is_alive_while_it_touches_the_file(tmp_path):
    path = tmp_path / "lock"
    _write_owner(path, host="far-away")
    with pytest.raises(locks.Held, match="far-away"), locks.lock(path):
        pass
    long_ago = time.time() - locks.DEAD_AFTER_S - 1
    os.utime(path, (long_ago, long_ago))
    with locks.lock(path):
        assert locks.is_held(path)


def _age(path: Path) -> None:
    """Makes the last heartbeat older than a live owner's can be."""
    long_ago = time.time() - locks.DEAD_AFTER_S - 1
    os.utime(path, (long_ago, long_ago))


@pytest.mark.parametrize(
    ("squeue", "scontrol", "held", "held_in_the_end"),
    [
        ("echo RUNNING", ANSWERS, True, True),
        ("echo COMPLETING", SILENT, True, True),
        ("true", ANSWERS, False, False),
        (UNKNOWN_JOB, ANSWERS, False, False),
        ("echo PENDING", ANSWERS, False, False),
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
    _write_owner(path, pid=os.getppid())
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


@pytest.mark.parametrize("content", [b"", b'{"host": "node7", "pi', b"[]", b"{}", b"\xff\xfe"])
def test_a_torn_lock_file_holds_as_long_as_a_silent_owner_could(tmp_path, content):
    path, fenced = tmp_path / "lock", []
    path.write_bytes(content)
    with pytest.raises(locks.Held, match="another process"), locks.lock(path):
        pass
    _age(path)
    with locks.lock(path, lambda: fenced.append(path)):
        assert locks.is_held(path)
    assert fenced == [path], "nobody knows on which machine its owner was"


def test_the_clock_of_another_machine_may_be_wrong(tmp_path, monkeypatch):
    path = tmp_path / "lock"
    _write_owner(path, host="far-away")
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert locks.is_held(path)
    _age(path)
    monkeypatch.undo()
    assert locks.is_held(path) is False


@pytest.mark.parametrize(("host", "count"), [("far-away", 1), (None, 0)])
def test_only_an_owner_that_may_still_run_is_fenced_off(tmp_path, holder, host, count):
    path, fenced = tmp_path / "lock", []
    holder.kill()
    holder.wait()
    if host:
        _write_owner(path, host=host)
        _age(path)
    with locks.lock(path, lambda: fenced.append(locks.owner_of(path).host)):
        pass
    assert fenced == ["far-away"] * count, "called while the lock file still names the old owner"


def test_a_fence_that_fails_leaves_the_lock_with_its_owner(tmp_path):
    path = tmp_path / "lock"
    _write_owner(path, host="far-away")
    _age(path)

    def fence() -> None:
        raise PermissionError

    with pytest.raises(PermissionError), locks.lock(path, fence):
        pass
    assert locks.owner_of(path).host == "far-away"
    assert [file.name for file in tmp_path.iterdir()] == ["lock"]


def test_only_one_process_at_a_time_takes_a_lock_over(tmp_path):
    path = tmp_path / "lock"
    _write_owner(path, host="far-away")
    _age(path)
    (tmp_path / "lock.dead").touch()
    with pytest.raises(locks.Held, match="far-away"), locks.lock(path):
        pass
    _age(tmp_path / "lock.dead")  # the process that was to take it over was killed
    with locks.wait_for(path, lambda owner: None, poll_s=0.01):
        assert locks.is_held(path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("change", [{"host": "far-away"}, {"pid": 1}, {"since": "2020"}, {"node": "n2"}])
def test_an_owner_notices_that_the_lock_was_taken_over(tmp_path, monkeypatch, change):
    path = tmp_path / "lock"
    with locks.lock(path) as ours:
        ours.check()
        ours.confirm()
        _write_owner(path, **change)
        ours.check()  # the last look was just now
        monkeypatch.setattr(locks, "LOOK_EVERY_S", 0.0)
        for look in (ours.check, ours.confirm, ours.confirm):
            with pytest.raises(locks.LostError, match=r"no longer belongs.*run the same command again"):
                look()
        path.write_text(json.dumps(asdict(ours.owner)))
        with pytest.raises(locks.LostError):
            ours.confirm()
    assert path.exists(), "what is lost stays lost"


def test_an_owner_notices_that_the_lock_file_was_removed(tmp_path):
    with pytest.raises(locks.LostError, match="but to nobody"), locks.lock(tmp_path / "lock") as ours:
        ours.path.unlink()
        ours.confirm()


def test_the_heartbeat_touches_the_lock_until_it_is_lost(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "HEARTBEAT_S", 0.02)
    path = tmp_path / "lock"
    with locks.lock(path) as ours:
        _age(path)
        assert _becomes_young(path)
        _write_owner(path, host="far-away")
        time.sleep(0.1)
        _age(path)
        assert not _becomes_young(path)
        with pytest.raises(locks.LostError):  # though the last look was of the heartbeat
            ours.check()


def _becomes_young(path: Path) -> bool:
    for _ in range(25):
        if time.time() - path.stat().st_mtime < locks.DEAD_AFTER_S:
            return True
        time.sleep(0.02)
    return False


def test_an_error_after_the_loss_is_explained_by_it(tmp_path):
    path = tmp_path / "lock"
    with pytest.raises(locks.LostError, match="far-away") as lost, locks.lock(path):
        _write_owner(path, host="far-away")
        raise FileNotFoundError("the folder has another name")
    assert isinstance(lost.value.__cause__, FileNotFoundError)
    assert locks.owner_of(path).host == "far-away"


def test_waiting_calls_back_often_but_tries_ever_more_seldom(tmp_path, monkeypatch):
    path, now, calls, tries = tmp_path / "lock", [0.0], [], []
    _write_owner(path, host="far-away")

    def sleep(seconds: float) -> None:
        now[0] += seconds

    def is_held(path: Path) -> bool:
        tries.append(now[0])
        return True

    def on_wait(owner) -> None:
        calls.append(now[0])
        if now[0] > 120:
            raise InterruptedError("the process is to stop")

    monkeypatch.setattr(locks, "is_held", is_held)
    monkeypatch.setattr(locks.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(locks.time, "sleep", sleep)
    with pytest.raises(InterruptedError), locks.wait_for(path, on_wait):
        pass
    pauses = [later - earlier for earlier, later in itertools.pairwise(tries)]
    assert pauses[:4] == [0.5] * 4 and pauses[-1] == 5.0 and pauses == sorted(pauses)
    assert all(later - earlier <= 0.5 for earlier, later in itertools.pairwise(calls))


def test_a_zombie_is_not_alive():
    process = subprocess.Popen([sys.executable, "-c", ""])
    while Path(f"/proc/{process.pid}/stat").read_text().split()[2] != "Z":
        time.sleep(0.01)
    assert not processes.is_alive(process.pid)
    process.wait()
    assert not processes.is_alive(process.pid)
    assert processes.is_alive(os.getpid())
