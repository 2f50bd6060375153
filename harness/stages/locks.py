"""Lock files that a dead owner does not hold.

On one machine the kernel decides (`flock`: a killed owner loses the lock at once). A shared file system
may not pass `flock` on to other machines. An owner on another machine counts as alive while Slurm lists its
job, or while it keeps touching the lock file.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from harness import processes

HEARTBEAT_S = 20.0
DEAD_AFTER_S = 180.0


@dataclass(frozen=True, kw_only=True)
class Owner:
    """The process that holds a lock. `job` is its Slurm job id; None outside Slurm."""

    host: str
    pid: int
    job: str | None
    since: str

    def __str__(self) -> str:
        job = f", Slurm job {self.job}" if self.job else ""
        return f"process {self.pid} on {self.host}{job}, since {self.since}"


class Held(Exception):
    """Another process holds the lock. `owner` is None until that process has written its name."""

    def __init__(self, owner: Owner | None) -> None:
        super().__init__(str(owner or "another process"))
        self.owner = owner


def me() -> Owner:
    """This process as an owner."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return Owner(host=socket.gethostname(), pid=os.getpid(), job=os.environ.get("SLURM_JOB_ID"), since=now)


@contextmanager
def lock(path: Path) -> Iterator[None]:
    """Holds the lock file `path` while the block runs.

    Raises:
        Held: another process holds it.
    """
    descriptor = _acquire(path)
    stop = threading.Event()
    heart = threading.Thread(target=_beat, args=(path, stop), daemon=True)
    heart.start()
    try:
        yield
    finally:
        stop.set()
        with suppress(OSError):  # what the block did is done: a lock file that stays is of a dead owner
            path.unlink(missing_ok=True)
            os.close(descriptor)


@contextmanager
def wait_for(path: Path, on_wait: Callable[[Owner | None], None], poll_s: float = 0.5) -> Iterator[None]:
    """Waits for the lock, then holds it while the block runs. Each attempt calls `on_wait` with the owner."""
    while True:
        try:
            mine = lock(path)
            mine.__enter__()
            break
        except Held as error:
            on_wait(error.owner)
            time.sleep(poll_s)
    try:
        yield
    finally:
        mine.__exit__(None, None, None)


def owner_of(path: Path) -> Owner | None:
    """The owner that a lock file names; None if there is no file or it is being written."""
    try:
        return Owner(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def is_held(path: Path) -> bool:
    """Whether a live process holds the lock. Does not take it."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return _alive_elsewhere(path)
    finally:
        os.close(descriptor)


def is_alive(pid: int) -> bool:
    """Whether a process of this machine runs. A zombie, whose parent has not read its exit code, does not."""
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    except OSError:  # there is no /proc (macOS), or the process ended just now
        return not Path("/proc/self/stat").exists()
    return state not in ("Z", "X")


def slurm_lists(job: str) -> bool | None:
    """Whether `squeue` lists the job; None if Slurm gives no answer, from which nothing follows."""
    answer = processes.ask(["squeue", "-h", "-j", job, "-o", "%T"])
    if answer is None:
        return None
    if answer.code != 0:
        return False if "Invalid job id" in answer.errors else None
    return bool(answer.output.strip())


def _acquire(path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not _is_same_file(descriptor, path):  # the owner removed it between our open and our flock
                os.close(descriptor)
                continue
            if _alive_elsewhere(path):
                raise Held(owner_of(path))
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(asdict(me())).encode(), 0)
            return descriptor
        except BlockingIOError:
            os.close(descriptor)
            raise Held(owner_of(path)) from None
        except BaseException:
            os.close(descriptor)
            raise


def _is_same_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _alive_elsewhere(path: Path) -> bool:
    """Whether the file's owner lives on another machine. The caller must hold the `flock`."""
    owner = owner_of(path)
    if owner is None or owner.host == socket.gethostname():
        return False  # we hold the flock, so no other process of this machine does
    if owner.job is not None and owner.job == os.environ.get("SLURM_JOB_ID"):
        return False  # this same job, before Slurm requeued it to this machine
    is_listed = slurm_lists(owner.job) if owner.job else None
    if is_listed is not None:
        return is_listed
    try:
        return time.time() - path.stat().st_mtime < DEAD_AFTER_S
    except FileNotFoundError:
        return False


def _beat(path: Path, stop: threading.Event) -> None:
    """Touches the lock file regularly, for processes of other machines, also after a failure to do so."""
    while not stop.wait(HEARTBEAT_S):
        with suppress(OSError):
            os.utime(path)
