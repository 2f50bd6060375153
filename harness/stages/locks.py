"""Lock files that are taken over only from an owner that is dead, or whose work is fenced off first.

The lock is a file that names its owner. It gets its name in one step, by a hard link, which fails where the
name is taken, so it excludes processes of all machines of a file system. The owner also holds the file's
`flock`, where there is one: the kernel of a machine, and a file system that passes `flock` on, then know of
a killed owner at once.

An owner is alive while the kernel holds its `flock`, while its process runs, if that is on this machine, or
while Slurm runs its job. Where nobody knows, it is alive while it keeps touching the file. A machine that
does not answer cannot be asked to end a process. So whoever takes a lock from another machine calls `fence`
first, which gives what the lock guards another name; and an owner looks whether the lock is still its own.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path

from harness.stages.lock_files import NoLocksError, hold_flock, is_flocked, knows_flock, make, own_file
from harness.stages.owners import Owner, job_id, me, runs_elsewhere, slurm_lists

__all__ = ["Held", "Lock", "LostError", "NoLocksError", "Owner", "is_held", "job_id", "lock", "me"]
__all__ += ["owner_of", "slurm_lists", "wait_for"]

HEARTBEAT_S = 20.0
# NFS shows a touched file, and a new name of a folder, up to 60 s late (acregmax, acdirmax). So a heartbeat
# may look 80 s old, and a server may hang for a minute more; and after so long without a touch, the owner's
# machine has forgotten the old name too.
DEAD_AFTER_S = 180.0
LOOK_EVERY_S = 5.0
LONGEST_PAUSE_S = 5.0


class Held(Exception):
    """Another process holds the lock. `owner` is None if the lock file does not say who."""

    def __init__(self, owner: Owner | None) -> None:
        super().__init__(str(owner or "another process"))
        self.owner = owner


class LostError(RuntimeError):
    """Another process has taken the lock over, so this one must stop and write nothing more."""


class Lock:
    """A lock that this process took, and may lose: its machine may be thought dead, or be suspended.

    Args:
        path: the lock file.
        owner: this process, as the file names it.
    """

    def __init__(self, path: Path, owner: Owner) -> None:
        self.path, self.owner = path, owner
        self._looked_at = time.monotonic()
        self._is_lost = False

    def check(self) -> None:
        """Looks whether the lock is still ours, if the last look is some seconds old.

        Raises:
            LostError: it is not. An error of the file system is left to the next look.
        """
        if self._is_lost or time.monotonic() - self._looked_at > LOOK_EVERY_S:
            with suppress(OSError):
                self.confirm()

    def confirm(self) -> None:
        """Looks whether the lock is still ours.

        Raises:
            LostError: it is not.
            OSError: the file cannot be read.
        """
        if self.is_lost():
            raise self.lost()

    def lost(self) -> LostError:
        """Return the error that says who has the lock now, and what to do."""
        return LostError(
            f"the lock {self.path} no longer belongs to this process ({self.owner}), but to"
            f" {owner_of(self.path) or 'nobody'}: Slurm had ended this process's job, or this process gave no"
            f" sign of life for {DEAD_AFTER_S:.0f} s. It stops and writes nothing more. If no other process"
            " makes the result, run the same command again to resume from the last checkpoint"
        )

    def is_lost(self) -> bool:
        """Whether the file no longer names this process. What is lost once stays lost.

        Raises:
            OSError: the file cannot be read.
        """
        if not self._is_lost:
            now = time.monotonic()
            try:
                self._is_lost = _parse(self.path.read_bytes()) != self.owner
            except FileNotFoundError:
                self._is_lost = True
            self._looked_at = now
        return self._is_lost

    def beat(self, stop: threading.Event) -> None:
        """Touches the file regularly, for processes of other machines, until it is lost."""
        while not stop.wait(HEARTBEAT_S):
            with suppress(OSError):  # the next one may succeed
                if self.is_lost():
                    return
                os.utime(self.path)


@contextmanager
def lock(path: Path, fence: Callable[[], None] | None = None) -> Iterator[Lock]:
    """Holds the lock file `path` while the block runs.

    Args:
        path: the file; its folder is made.
        fence: gives what the lock guards another name. It is called before the lock of an owner is taken over
            that may still run, on another machine.

    Raises:
        Held: another process holds it.
        LostError: another process has taken it over, and the block failed for that or after that.
        NoLocksError: the file system has no locks that work here.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    ours = Lock(path, _acquire(path, fence))
    descriptor, stop = None, threading.Event()
    try:
        if ours.owner.flock:
            descriptor = hold_flock(path)
        threading.Thread(target=ours.beat, args=(stop,), daemon=True).start()
        yield ours
    except LostError:
        raise
    except Exception as error:  # such as a folder that has another name now
        with suppress(OSError):
            if ours.is_lost():
                raise ours.lost() from error
        raise
    finally:
        stop.set()
        with suppress(OSError):  # what the block did is done: a lock file that stays is of a dead owner
            if not ours.is_lost():
                path.unlink(missing_ok=True)
        if descriptor is not None:
            os.close(descriptor)


@contextmanager
def wait_for(
    path: Path,
    on_wait: Callable[[Owner | None], None],
    fence: Callable[[], None] | None = None,
    *,
    poll_s: float = 0.5,
) -> Iterator[Lock]:
    """Waits for the lock, then holds it while the block runs.

    Args:
        path: as of `lock`.
        on_wait: called with the owner every `poll_s` seconds while this waits; ends it by raising an error.
        fence: as of `lock`.
        poll_s: seconds between the first attempts. Later ones are further apart, up to 5 s.

    Raises:
        LostError, NoLocksError: as of `lock`.
    """
    began = time.monotonic()
    with ExitStack() as stack:
        while True:
            try:
                ours = stack.enter_context(lock(path, fence))
                break
            except Held as error:
                now = time.monotonic()
                following = now + min(max(poll_s, (now - began) / 10), LONGEST_PAUSE_S)
                while time.monotonic() < following:
                    on_wait(error.owner)
                    time.sleep(poll_s)
        yield ours


def owner_of(path: Path) -> Owner | None:
    """The owner that a lock file names; None if there is no file, or it names none."""
    try:
        return _parse(path.read_bytes())
    except OSError:
        return None


def is_held(path: Path) -> bool:
    """Whether a process that may be alive holds the lock. Does not take it."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        is_locked = is_flocked(descriptor)
    finally:
        os.close(descriptor)
    if is_locked:
        return True
    owner = owner_of(path)
    if owner is None:
        return _beats(path)
    if not owner.is_here():
        runs = runs_elsewhere(owner)
        return _beats(path) if runs is None else runs
    if not owner.has_process():
        return False
    return is_locked is None or _beats(path)  # it has let the lock go, but could not remove the file


def _parse(content: bytes) -> Owner | None:
    try:
        return Owner(**json.loads(content))
    except (ValueError, TypeError):
        return None


def _acquire(path: Path, fence: Callable[[], None] | None) -> Owner:
    """Makes the lock file, after the one of a dead owner is removed. Returns its owner, this process.

    Raises:
        Held: another process holds it.
        NoLocksError: the file system has neither `flock` nor hard links.
    """
    new = own_file(path, "new")
    try:
        owner = replace(me(), flock=knows_flock(new))
        new.write_text(json.dumps(asdict(owner)), encoding="utf-8")
        while not make(path, new, has_flock=owner.flock):
            if is_held(path):
                raise Held(owner_of(path))
            _remove_dead(path, fence)
    finally:
        new.unlink(missing_ok=True)
    return owner


def _remove_dead(path: Path, fence: Callable[[], None] | None) -> None:
    """Removes the lock file of a dead owner, unless another process does so just now.

    The one that makes the file `<path>.dead` may. It looks again, because the lock file may be another one
    by now. The fence comes first: a kill after it only has it done twice.
    """
    dead = path.with_name(path.name + ".dead")
    try:
        os.close(os.open(dead, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
    except FileExistsError:
        if not _beats(dead):  # its maker was killed
            dead.unlink(missing_ok=True)
        raise Held(owner_of(path)) from None
    try:
        owner = owner_of(path)
        if not path.exists() or is_held(path):
            return
        if fence is not None and not (owner is not None and owner.is_here() and not owner.has_process()):
            fence()
        if owner_of(path) == owner:
            path.unlink(missing_ok=True)
    finally:
        dead.unlink(missing_ok=True)


def _beats(path: Path) -> bool:
    """Whether a file was touched a short time ago, by the clock of the file system: machines' differ."""
    clock = own_file(path, "clock")
    try:
        clock.touch()
        return clock.stat().st_mtime - path.stat().st_mtime < DEAD_AFTER_S
    except FileNotFoundError:
        return False
    finally:
        clock.unlink(missing_ok=True)
