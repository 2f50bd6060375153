"""What a lock file needs of a file system: a file that only one process can make, and `flock`."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path

NO_FLOCK = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL}
NO_LINK = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EPERM, errno.EMLINK, errno.EINVAL}


class NoLocksError(OSError):
    """The file system has no locks, and no safe way was found without. The message says what to do."""


def make(path: Path, new: Path, *, has_flock: bool) -> bool:
    """Gives the file `new` the name `path` too. Returns False if that is taken.

    Raises:
        NoLocksError: the file system has neither `flock` nor hard links.
    """
    try:
        os.link(new, path)
    except FileExistsError:  # made by us, where the answer to a first request was lost on the way (NFS)
        with suppress(FileNotFoundError):  # removed since
            return new.samefile(path)
        return False
    except OSError as error:
        if error.errno not in NO_LINK:
            raise
        if has_flock:
            return _make_without_link(path, new)
        raise NoLocksError(
            f"{path} cannot be made: the file system of {path.parent} has neither file locks (flock) nor hard"
            " links, so two processes could make the same stage at once. Name a folder on another file system"
            " with outputs_dir=FOLDER, or ask for a mount with locks (Lustre: the mount option flock)"
        ) from error
    return True


def _make_without_link(path: Path, new: Path) -> bool:
    """As `make`, but for a moment the file is there and names no owner."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:
        return False
    try:
        os.write(descriptor, new.read_bytes())
    finally:
        os.close(descriptor)
    return True


def knows_flock(new: Path) -> bool:
    """Makes a file that no other process uses. Returns whether the file system has `flock`."""
    descriptor = os.open(new, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        return is_flocked(descriptor) is not None
    finally:
        os.close(descriptor)


def is_flocked(descriptor: int) -> bool | None:
    """Whether the kernel knows of another process that holds the file; None where there is no `flock`."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError as error:
        if error.errno not in NO_FLOCK:
            raise
        return None
    return False


def hold_flock(path: Path) -> int | None:
    """Has the kernel hold our lock file. Returns the descriptor to close; None if others hold it too long.

    Others only look, for a moment each. It does not matter: the file itself is the lock.
    """
    descriptor = os.open(path, os.O_RDWR)
    give_up = time.monotonic() + 1
    while time.monotonic() < give_up:
        with suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        time.sleep(0.01)
    os.close(descriptor)
    return None


def own_file(path: Path, kind: str) -> Path:
    """A file beside the lock file that no other process or thread uses."""
    maker = f"{socket.gethostname()}.{os.environ.get('SLURMD_NODENAME', '')}"
    return path.with_name(f".{path.name}.{maker}.{os.getpid()}.{threading.get_ident()}.{kind}")
