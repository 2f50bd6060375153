"""Other processes: commands (squeue, scancel, git, nvidia-smi) that may never answer, and who is alive."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

TIMEOUT_S = 30.0
END_S = 1.0  # how long a killed command may take to end; one in a hung system call never does


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a command that ended has said. `code` is its exit code; negative for the signal that ended it."""

    code: int
    output: str
    errors: str


def ask(
    command: Sequence[str | Path],
    *,
    timeout_s: float = TIMEOUT_S,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Answer | None:
    """Runs a command in `folder` and returns its answer; None if it gives none.

    None means unknown: the command is not there, cannot be started, or has not ended after `timeout_s`
    seconds and was killed. Nothing may be concluded from it. Bytes that are no UTF-8 are replaced.
    """
    try:
        process = subprocess.Popen(
            [str(word) for word in command],
            cwd=folder,
            env=None if environment is None else dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,  # Ctrl-C is for us alone, and a kill reaches what the command started
        )
    except (OSError, ValueError):  # ValueError: a zero byte in a word
        return None
    try:
        output, errors = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        _kill(process)
        return None
    except BaseException:
        _kill(process)
        raise
    return Answer(code=process.returncode, output=output, errors=errors)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Ignores Ctrl-C and SIGTERM while the block runs. Does nothing outside the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def threads() -> int | None:
    """Return the threads of this process by OMP_NUM_THREADS; None where it does not say.

    OpenMP allows a list, of which the first number is that of the outermost level, and ignores other texts.
    """
    first = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(first) or None if first.isascii() and first.isdecimal() else None


def began(pid: int) -> int | None:
    """When a process of this machine began, in ticks since the machine did; None where that is not known."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None


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


def _kill(process: subprocess.Popen[str]) -> None:
    """Kills the command and what it has started, and waits for it only a moment."""
    with suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=END_S)
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()
