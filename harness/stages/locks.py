"""Lock files that a dead owner does not hold.

On one machine the kernel decides (`flock`: a killed owner loses the lock at once). A shared file system
may not pass `flock` on to other machines. An owner on another machine counts as alive while Slurm lists its
job, or while it keeps touching the lock file.

Where the file system knows no `flock`, the lock file itself is the lock. It is made by a hard link, which
fails where the name is taken. Its owner counts as alive while its process runs, if that is on this machine,
and otherwise as above.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from harness import processes

HEARTBEAT_S = 20.0
DEAD_AFTER_S = 180.0
NO_FLOCK = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL}
NO_LINK = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EPERM, errno.EMLINK, errno.EINVAL}


@dataclass(frozen=True, kw_only=True)
class Owner:
    """The process that holds a lock.

    `job` is its Slurm job id, None outside Slurm. `flock` says whether the kernel knows of the lock too.
    """

    host: str
    pid: int
    job: str | None
    since: str
    flock: bool = True

    def __str__(self) -> str:
        job = f", Slurm job {self.job}" if self.job else ""
        return f"process {self.pid} on {self.host}{job}, since {self.since}"


class Held(Exception):
    """Another process holds the lock. `owner` is None until that process has written its name."""

    def __init__(self, owner: Owner | None) -> None:
        super().__init__(str(owner or "another process"))
        self.owner = owner


class NoLocksError(OSError):
    """The file system has no locks, and no safe way was found without. The message says what to do."""


def job_id() -> str | None:
    a, t = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{a}_{t}" if a else os.environ.get("SLURM_JOB_ID")


def me() -> Owner:
    """This process as an owner."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return Owner(host=socket.gethostname(), pid=os.getpid(), job=job_id(), since=now)


@contextmanager
def lock(path: Path) -> Iterator[None]:
    """Holds the lock file `path` while the block runs.

    Raises:
        Held: another process holds it.
        NoLocksError: the file system has no locks that work here.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = None
    if _knows_flock(path):
        descriptor = _acquire(path)
    else:
        _acquire_without_flock(path)
    stop = threading.Event()
    heart = threading.Thread(target=_beat, args=(path, stop), daemon=True)
    heart.start()
    try:
        yield
    finally:
        stop.set()
        with suppress(OSError):  # what the block did is done: a lock file that stays is of a dead owner
            if _is_ours(path):
                path.unlink(missing_ok=True)
            if descriptor is not None:
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
    except OSError as error:
        if error.errno not in NO_FLOCK:
            raise
        return _alive_without_flock(path)
    else:
        return _alive_elsewhere(path)
    finally:
        os.close(descriptor)


def slurm_lists(job: str) -> bool | None:
    """Whether `squeue` lists the job; None if Slurm gives no answer, from which nothing follows."""
    answer = processes.ask(["squeue", "-h", "-j", job, "-o", "%T"])
    if answer is None:
        return None
    if answer.code != 0:
        return False if "Invalid job id" in answer.errors else None
    return bool(answer.output.strip())


def _knows_flock(path: Path) -> bool:
    """Whether the file system has `flock`. Tries it on another file: the lock file may have an owner."""
    probe = _own_file(path)
    descriptor = os.open(probe, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in NO_FLOCK:
            raise
        return False
    else:
        return True
    finally:
        os.close(descriptor)
        probe.unlink(missing_ok=True)


def _own_file(path: Path) -> Path:
    """A file beside the lock file that no other process or thread uses."""
    return path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}.{threading.get_ident()}.new")


def _acquire(path: Path) -> int:
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
    if owner is None:
        return False
    if owner.host == socket.gethostname():  # we hold the flock, so no other process of this machine does
        return not owner.flock and processes.is_alive(owner.pid)
    if owner.job is not None and owner.job == os.environ.get("SLURM_JOB_ID"):
        return False  # this same job, before Slurm requeued it to this machine
    is_listed = slurm_lists(owner.job) if owner.job else None
    if is_listed is not None:
        return is_listed
    return _beats(path)


def _is_ours(path: Path) -> bool:
    """Whether no other process has taken the lock over."""
    owner = owner_of(path)
    return owner is None or (owner.host, owner.pid) == (socket.gethostname(), os.getpid())


def _beats(path: Path) -> bool:
    """Whether the lock file was touched a short time ago."""
    try:
        return time.time() - path.stat().st_mtime < DEAD_AFTER_S
    except FileNotFoundError:
        return False


def _acquire_without_flock(path: Path) -> None:
    """Makes the lock file if it is not there, or takes it over from an owner that is dead.

    Raises:
        Held: another process holds it.
        NoLocksError: the file system has no hard links either.
    """
    new = _own_file(path)
    new.write_text(json.dumps(asdict(replace(me(), flock=False))), encoding="utf-8")
    try:
        while not _link(new, path):
            if _alive_without_flock(path):
                raise Held(owner_of(path))
            _remove_dead(path)
    finally:
        new.unlink(missing_ok=True)


def _remove_dead(path: Path) -> None:
    """Removes the lock file of a dead owner, unless another process does so just now.

    The one that gives the file the name `<path>.dead` as well is to remove it. It judges the owner again
    under that name, because the file may be another one by now.
    """
    dead = path.with_name(path.name + ".dead")
    try:
        if not _link(path, dead):
            if time.time() - dead.stat().st_ctime > DEAD_AFTER_S:  # its remover was killed
                dead.unlink()
            raise Held(owner_of(path))
    except FileNotFoundError:  # another process was faster
        return
    try:
        if not _alive_without_flock(dead):
            path.unlink(missing_ok=True)
    finally:
        dead.unlink(missing_ok=True)


def _alive_without_flock(path: Path) -> bool:
    """Whether the owner of a lock file lives, as far as it can be known without `flock`."""
    owner = owner_of(path)
    if owner is None:  # of an earlier version, or cut: wait for a heartbeat
        return _beats(path)
    if owner.host == socket.gethostname():
        return processes.is_alive(owner.pid)
    if owner.job is not None and owner.job != os.environ.get("SLURM_JOB_ID") and slurm_lists(owner.job):
        return True
    return _beats(path)


def _link(source: Path, name: Path) -> bool:
    """Gives a file another name. Returns False if that is taken.

    Raises:
        NoLocksError: the file system has no hard links.
    """
    try:
        os.link(source, name)
    except FileExistsError:  # made by us, where the answer to a first request was lost on the way (NFS)
        with suppress(FileNotFoundError):  # removed since
            return source.samefile(name)
        return False
    except OSError as error:
        if error.errno not in NO_LINK:
            raise
        raise NoLocksError(
            f"{name} cannot be made: the file system of {name.parent} has neither file locks (flock) nor hard"
            " links, so two processes could make the same stage at once. Name a folder on another file system"
            " with outputs_dir=FOLDER, or ask for a mount with locks (Lustre: the mount option flock)"
        ) from error
    return True


def _beat(path: Path, stop: threading.Event) -> None:
    """Touches the lock file regularly, for processes of other machines, also after a failure to do so."""
    while not stop.wait(HEARTBEAT_S):
        with suppress(OSError):
            os.utime(path)
