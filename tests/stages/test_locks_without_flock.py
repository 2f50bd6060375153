"""Locks without `flock`: the lock file itself is the lock, or a usage error says what to do."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from harness.stages import locks
from harness.stages.store import StageStore, StorageError
from harness.types import Stage

ROOT = Path(__file__).resolve().parents[2]
WITHOUT = """
import errno, fcntl, sys, time
from pathlib import Path
from harness.stages import locks
def refuse(*given): raise OSError({number}, "no locks here")
flock, fcntl.flock = fcntl.flock, refuse
path = Path(sys.argv[1])
"""
HOLD = """
with locks.lock(path):
    print("held", flush=True)
    time.sleep(60)
"""
COUNT = """
counter = path.with_name("counter")
for _ in range(20):
    with locks.wait_for(path, lambda owner: None, poll_s=0.001):
        value = int(counter.read_text())
        time.sleep(0.001)
        counter.write_text(str(value + 1))
"""


def start(path: Path, code: str, number: int = errno.ENOSYS) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WITHOUT.format(number=number) + code, str(path)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)


@pytest.fixture(params=[errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK], ids=errno.errorcode.get)
def without_flock(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    def refuse(*given: object) -> None:
        raise OSError(request.param, "no locks here")

    monkeypatch.setattr(fcntl, "flock", refuse)
    return request.param


def refuse_links(*given: object, **more: object) -> None:
    raise PermissionError(errno.EPERM, "Operation not permitted")


def test_a_lock_names_its_owner_excludes_others_and_is_gone_afterwards(
    tmp_path: Path, without_flock: int
) -> None:
    path = tmp_path / "lock"
    with locks.lock(path):
        owner = locks.owner_of(path)
        assert owner is not None and owner.pid == os.getpid() and not owner.flock
        assert locks.is_held(path)
        with pytest.raises(locks.Held, match=f"process {os.getpid()}"), locks.lock(path):
            pass
    assert list(tmp_path.iterdir()) == [] and not locks.is_held(path)


def test_a_second_process_is_refused_and_a_killed_owner_loses_the_lock_at_once(
    tmp_path: Path, without_flock: int
) -> None:
    holder = start(tmp_path / "lock", HOLD, without_flock)
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    with pytest.raises(locks.Held, match=f"process {holder.pid}"), locks.lock(tmp_path / "lock"):
        pass
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    with locks.lock(tmp_path / "lock"):
        assert locks.is_held(tmp_path / "lock")
    assert list(tmp_path.iterdir()) == []


NO_LINKS = """
import os
def refuse_link(*given): raise PermissionError(errno.EPERM, "no hard links here")
os.link = refuse_link
"""
WITH_FLOCK = "fcntl.flock = flock\n"


@pytest.mark.parametrize("setting", ["", WITH_FLOCK, WITH_FLOCK + NO_LINKS], ids=["link", "both", "flock"])
def test_processes_exclude_each_other(tmp_path: Path, setting: str) -> None:
    """The lock file of a dead owner is there at first: one of them takes it over."""
    dead = start(tmp_path / "lock", setting + HOLD)
    assert dead.stdout is not None and dead.stdout.readline() == "held\n"
    dead.kill()
    dead.communicate()
    (tmp_path / "counter").write_text("0")
    processes = [start(tmp_path / "lock", setting + COUNT) for _ in range(4)]
    assert [process.wait() for process in processes] == [0] * 4
    assert (tmp_path / "counter").read_text() == "80"
    assert [path.name for path in tmp_path.iterdir()] == ["counter"]


@pytest.mark.parametrize("job", [None, "123"])
def test_an_owner_elsewhere_is_alive_while_it_touches_the_file(
    tmp_path: Path, without_flock: int, monkeypatch: pytest.MonkeyPatch, job: str | None
) -> None:
    """Also one of this very job: without `flock` a requeued job is not told from a second node of it."""
    monkeypatch.setenv("SLURM_JOB_ID", "123")
    path = tmp_path / "lock"
    owner = replace(locks.me(), host="far-away", job=job)
    path.write_text(json.dumps(asdict(owner)))
    with pytest.raises(locks.Held, match="far-away"), locks.lock(path):
        pass
    long_ago = time.time() - locks.DEAD_AFTER_S - 1
    os.utime(path, (long_ago, long_ago))
    with locks.lock(path):
        assert locks.is_held(path)


def test_an_owner_without_flock_on_this_machine_is_seen_by_one_with_it(tmp_path: Path) -> None:
    holder = start(tmp_path / "lock", HOLD)
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    with pytest.raises(locks.Held, match=f"process {holder.pid}"), locks.lock(tmp_path / "lock"):
        pass
    holder.kill()
    holder.communicate()
    with locks.lock(tmp_path / "lock"):
        pass


def test_without_hard_links_too_the_message_says_what_to_do(
    tmp_path: Path, without_flock: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "link", refuse_links)
    advice = r"neither file locks \(flock\) nor hard links.*outputs_dir=FOLDER"
    with pytest.raises(locks.NoLocksError, match=advice), locks.lock(tmp_path / "lock"):
        pass
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(StorageError, match=advice):
        StageStore(tmp_path).make(Stage(name="x", program="json.dumps", settings={}), None)  # type: ignore[arg-type]


def test_a_lock_that_another_process_has_taken_over_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with locks.lock(path):
        path.write_text(json.dumps(asdict(replace(locks.me(), host="far-away"))))
    assert path.exists()
