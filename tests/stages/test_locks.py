from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness import processes
from harness.stages import locks

ROOT = Path(__file__).resolve().parents[2]


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


def test_an_owner_on_another_host_is_alive_while_it_touches_the_file(tmp_path, write_owner):
    path = tmp_path / "lock"
    write_owner(path, host="far-away")
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


def test_waiting_calls_back_often_but_tries_ever_more_seldom(tmp_path, monkeypatch, write_owner):
    path, now, calls, tries = tmp_path / "lock", [0.0], [], []
    write_owner(path, host="far-away")

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
