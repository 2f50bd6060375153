"""Ranks: processes that run a stage's program together. Rank 0 is the calling process and starts the others.

`python -m harness.stages.ranks` is the child process. It reads a `ProgramCall` on its standard input and
makes the call in a `torch.distributed` group with rank 0. It reports no progress. Rank 0 prints the child's
output, each line marked with the rank. A child ends when its parent is gone. If a child fails, the parent
ends with the child's last lines as the error.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import sysconfig
import threading
import time
import traceback
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn

from harness.settings import whole_number
from harness.stages import loaded, sources
from harness.stages.program import SilentWorkspace, load_program
from harness.types import Stage

LAST_LINES = 15
WATCH_S = 0.5
GRACE_S = 20.0  # how long rank 0 may take to notice a failed child by itself, before it is ended
NEVER = timedelta(days=365)  # a rank may wait long for a judge; dead ranks are found by watching processes
GROUP_VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
LOCALHOST = "127.0.0.1"


class RankError(RuntimeError):
    """Another rank failed. The message ends with its last lines."""


@dataclass(frozen=True, kw_only=True)
class ProgramCall:
    """A stage program with its arguments, as JSON values: every rank makes this call.

    `sources` are the digests of the code that the stage's key was made of; empty: any code may run.
    """

    program: str
    settings: Mapping[str, Any]
    inputs: Mapping[str, str]
    folder: str
    sources: Mapping[str, str] = field(default_factory=dict)


def check(processes: Any, stages: Sequence[Stage]) -> None:
    """Checks that `processes` processes can share the items of a step of every stage evenly.

    Raises:
        ValueError: `processes` is no whole number from 1, or does not divide the items.
    """
    whole_number("resources.processes", processes)
    for stage in stages:
        if stage.parallel is not None and stage.parallel % processes:
            raise ValueError(
                f"resources.processes={processes} must divide the {stage.parallel} items of a step of"
                f" {stage.name!r}. Change one of them (grpo.prompts, sft.batch_size)"
            )


@contextmanager
def other_ranks(call: ProgramCall, processes: int) -> Iterator[None]:
    """Runs the call in ranks 1 and up while the block makes it in rank 0; all are in one process group.

    Raises:
        RankError: another rank failed, and rank 0 did not fail for a reason of its own.
    """
    from torch.distributed import TCPStore

    store = TCPStore(LOCALHOST, 0, processes, is_master=True, wait_for_workers=False)
    children = [_Child(rank, call, processes, store.port) for rank in range(1, processes)]
    finished = threading.Event()
    threading.Thread(target=_watch, args=(children, finished), daemon=True).start()
    try:
        with _group(0, processes, store):
            try:
                yield
            except RuntimeError as error:  # torch's error where another rank broke the connection
                _raise_failure(children, cause=error)
                raise
            for child in children:
                child.process.wait()
            _raise_failure(children)
    finally:
        finished.set()
        for child in children:
            child.end()


class _Child:
    """Another rank: its output is printed, and its last lines are kept."""

    def __init__(self, rank: int, call: ProgramCall, processes: int, port: int) -> None:
        self.rank = rank
        self.lines: deque[str] = deque(maxlen=LAST_LINES)
        environment = {
            **os.environ,
            **_variables(rank, processes, port),
            "PYTHONPATH": import_path(),
            "PYTHONSAFEPATH": "1",
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "harness.stages.ranks"],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # Ctrl-C goes to rank 0, which then ends this process
        )
        assert self.process.stdin is not None
        with suppress(BrokenPipeError), self.process.stdin as stdin:
            json.dump(asdict(call), stdin)
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip())
            print(f"[rank {self.rank}] {line.rstrip()}", file=sys.stderr, flush=True)

    def failure(self) -> str | None:
        """Says how the process failed; None while it runs and if it ended well."""
        code = self.process.poll()
        if not code:
            return None
        self._listener.join(timeout=1)
        end = f"was ended by signal {-code} (out of memory?)" if code < 0 else "failed"
        return "\n".join([f"rank {self.rank} {end}", *self.lines])

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


def _raise_failure(children: Sequence[_Child], cause: Exception | None = None) -> None:
    """Raises the error of the first failed child. After an error in rank 0, waits a moment for one."""
    end = time.monotonic() + (2 * WATCH_S if cause else 0)
    while True:
        if failure := _first_failure(children):
            raise RankError(failure) from cause
        if time.monotonic() >= end:
            return
        time.sleep(WATCH_S / 5)


def _watch(children: Sequence[_Child], finished: threading.Event) -> None:
    """Ends this process if a child failed and rank 0 hangs in a communication with it and does not notice."""
    while not finished.wait(WATCH_S):
        failure = _first_failure(children)
        if failure and not finished.wait(GRACE_S):
            print(f"error: {failure}", file=sys.stderr, flush=True)
            for child in children:
                child.end()
            os._exit(1)


def _first_failure(children: Sequence[_Child]) -> str | None:
    for child in children:
        if failure := child.failure():
            return failure
    return None


@contextmanager
def _group(rank: int, processes: int, store: Any) -> Iterator[None]:
    """Sets up the process group, and the variables that accelerate reads, while the block runs."""
    import torch
    from accelerate.state import AcceleratorState

    before = dict(os.environ)
    os.environ.update(_variables(rank, processes, store.port))
    if sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # one machine, whose name may not resolve
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(rank)
    # the state may hold the process count of an earlier stage
    AcceleratorState._reset_state(reset_partial_state=True)
    torch.distributed.init_process_group(
        "cpu:gloo,cuda:nccl" if cuda else "gloo", store=store, rank=rank, world_size=processes, timeout=NEVER
    )
    ended_well = False
    try:
        yield
        ended_well = True
    finally:
        if ended_well or not cuda:  # NCCL may wait for dead ranks; after a failure this process ends anyway
            torch.distributed.destroy_process_group()
        AcceleratorState._reset_state(reset_partial_state=True)
        os.environ.clear()
        os.environ.update(before)


def _variables(rank: int, processes: int, port: int) -> dict[str, str]:
    values = (rank, rank, processes, processes, LOCALHOST, port)
    return dict(zip(GROUP_VARIABLES, map(str, values), strict=True))


def import_path() -> str:
    """`sys.path` for a child, without the folders that every interpreter of this environment has anyway."""
    standard = {
        Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib", "purelib", "platlib")
    }
    standard |= {folder / "lib-dynload" for folder in standard}
    folders = [Path(folder).resolve() for folder in sys.path]
    return os.pathsep.join(str(folder) for folder in folders if folder.is_dir() and folder not in standard)


def main() -> None:
    """The process of a child: makes the call and ends at once; the exit code says whether it succeeded."""
    from torch.distributed import TCPStore

    for number in (signal.SIGTERM, signal.SIGUSR2):  # a cluster may signal every process; rank 0 decides
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    call = ProgramCall(**json.load(sys.stdin))
    rank, processes, port = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "MASTER_PORT"))
    try:
        with _group(rank, processes, TCPStore(LOCALHOST, port, processes, is_master=False)):
            inputs = {name: Path(folder) for name, folder in call.inputs.items()}
            roots = [call.program, *sources.targets(call.settings)]
            with loaded.guarded(roots, call.sources) if call.sources else nullcontext():
                load_program(call.program)(SilentWorkspace(Path(call.folder)), dict(call.settings), inputs)
    except BaseException:
        traceback.print_exc()
        _exit(1)
    _exit(0)


def _exit(code: int) -> NoReturn:
    """Ends this process at once. In Python's shutdown, threads of torch may abort a successful process."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _end_with(parent: int) -> None:
    """Ends this process when its parent is gone."""
    while os.getppid() == parent:
        time.sleep(WATCH_S)
    os._exit(1)


if __name__ == "__main__":
    main()
