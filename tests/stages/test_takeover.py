"""A lock is taken over by one process, after its fence, and the one that lost it notices."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pytest

from harness.stages import locks

ROOT = Path(__file__).resolve().parents[2]


def _age(path: Path) -> None:
    """Makes the last heartbeat older than a live owner's can be."""
    long_ago = time.time() - locks.DEAD_AFTER_S - 1
    os.utime(path, (long_ago, long_ago))


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


def test_the_clock_of_another_machine_may_be_wrong(tmp_path, monkeypatch, write_owner):
    path = tmp_path / "lock"
    write_owner(path, host="far-away")
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert locks.is_held(path)
    _age(path)
    monkeypatch.undo()
    assert locks.is_held(path) is False


@pytest.mark.parametrize(("host", "count"), [("far-away", 1), (None, 0)])
def test_only_an_owner_that_may_still_run_is_fenced_off(tmp_path, holder, host, count, write_owner):
    path, fenced = tmp_path / "lock", []
    holder.kill()
    holder.wait()
    if host:
        write_owner(path, host=host)
        _age(path)
    with locks.lock(path, lambda: fenced.append(locks.owner_of(path).host)):
        pass
    assert fenced == ["far-away"] * count, "called while the lock file still names the old owner"


TAKE = """
import os, sys, time
from pathlib import Path
from harness.stages import locks
folder = Path(sys.argv[1])
def fence():
    time.sleep(0.1)
    os.open(folder / "fenced", os.O_CREAT | os.O_EXCL)
print(flush=True)
sys.stdin.readline()
with locks.wait_for(folder / "lock", lambda owner: None, fence, poll_s=0.005):
    (folder / "inside").mkdir()
    time.sleep(0.05)
    (folder / "inside").rmdir()
"""


def test_many_processes_take_over_from_a_dead_one_and_fence_it_off_once(tmp_path, write_owner):
    write_owner(tmp_path / "lock", host="far-away")
    _age(tmp_path / "lock")
    command = [sys.executable, "-c", TAKE, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": ROOT}
    takers = [subprocess.Popen(command, **pipes) for _ in range(6)]
    assert [taker.stdout.readline() for taker in takers] == ["\n"] * 6
    for taker in takers:
        taker.communicate("begin\n")
    assert [taker.returncode for taker in takers] == [0] * 6
    assert [file.name for file in tmp_path.iterdir()] == ["fenced"]


def test_a_fence_that_fails_leaves_the_lock_with_its_owner(tmp_path, write_owner):
    path = tmp_path / "lock"
    write_owner(path, host="far-away")
    _age(path)

    def fence() -> None:
        raise PermissionError

    with pytest.raises(PermissionError), locks.lock(path, fence):
        pass
    assert locks.owner_of(path).host == "far-away"
    assert [file.name for file in tmp_path.iterdir()] == ["lock"]


def test_only_one_process_at_a_time_takes_a_lock_over(tmp_path, write_owner):
    path = tmp_path / "lock"
    write_owner(path, host="far-away")
    _age(path)
    (tmp_path / "lock.dead").touch()
    with pytest.raises(locks.Held, match="far-away"), locks.lock(path):
        pass
    _age(tmp_path / "lock.dead")  # the process that was to take it over was killed
    with locks.wait_for(path, lambda owner: None, poll_s=0.01):
        assert locks.is_held(path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("change", [{"host": "far-away"}, {"pid": 1}, {"since": "2020"}, {"node": "n2"}])
def test_an_owner_notices_that_the_lock_was_taken_over(tmp_path, monkeypatch, change, write_owner):
    path = tmp_path / "lock"
    with locks.lock(path) as ours:
        ours.check()
        ours.confirm()
        write_owner(path, **change)
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


def test_the_heartbeat_touches_the_lock_until_it_is_lost(tmp_path, monkeypatch, write_owner):
    monkeypatch.setattr(locks, "HEARTBEAT_S", 0.02)
    path = tmp_path / "lock"
    with locks.lock(path) as ours:
        _age(path)
        assert _becomes_young(path)
        write_owner(path, host="far-away")
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


def test_an_error_after_the_loss_is_explained_by_it(tmp_path, write_owner):
    path = tmp_path / "lock"
    with pytest.raises(locks.LostError, match="far-away") as lost, locks.lock(path):
        write_owner(path, host="far-away")
        raise FileNotFoundError("the folder has another name")
    assert isinstance(lost.value.__cause__, FileNotFoundError)
    assert locks.owner_of(path).host == "far-away"
