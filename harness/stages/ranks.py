"""Processes that train together in one job: rank 0 is the process that calls, the others are its children.

`python -m harness.stages.ranks` is a child: it reads on its standard input which program to run, with which
settings and inputs, and runs it beside rank 0 in a `torch.distributed` group. It reports nothing; what it
says on stderr is passed on, marked with its rank. All live and die together: a child ends when its parent
is gone, and the parent when a child has failed, with the child's last lines as the error.
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
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn

from harness.settings import whole_number
from harness.types import Stage

LAST_LINES = 15
WATCH_S = 0.5
GRACE_S = 20.0  # that rank 0 has to notice a failed child by itself, before it is ended
NEVER = timedelta(
    days=365
)  # a judge may be waited for as long as it takes; the dead are found by watching processes
GROUP_VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
HERE = "127.0.0.1"


class RankError(RuntimeError):
    """Another process of those that train together failed; the message ends with its last lines."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """What every rank runs: a stage program, as `harness.stages.store` would call it."""

    program: str
    settings: Mapping[str, Any]
    inputs: Mapping[str, str]
    folder: str


def check(processes: Any, stages: Sequence[Stage]) -> None:
    """Refuses a number of processes that cannot share out the items of a step.

    Raises:
        ValueError: it is no number, or does not divide them.
    """
    whole_number("resources.processes", processes)
    for stage in stages:
        if stage.parallel is not None and stage.parallel % processes:
            raise ValueError(
                f"resources.processes={processes}: a step of {stage.name} has {stage.parallel} items to share out, which that does not"
                " divide. Change one of them (grpo.prompts, sft.batch_size)"
            )


@contextmanager
def beside(work: Work, processes: int) -> Iterator[None]:
    """Has the other ranks run the same work while the block does rank 0's part, and the group in place for both.

    Raises:
        RankError: another rank failed, and rank 0 at most because of that.
    """
    from torch.distributed import TCPStore

    store = TCPStore(HERE, 0, processes, is_master=True, wait_for_workers=False)
    children = [_Child(rank, work, processes, store.port) for rank in range(1, processes)]
    over = threading.Event()
    threading.Thread(target=_watch, args=(children, over), daemon=True).start()
    try:
        with _group(0, processes, store):
            try:
                yield
            except RuntimeError as error:  # what a broken connection is told as; while the group is there nobody fails because of us
                _complain(children, cause=error)
                raise
            for child in children:
                child.process.wait()
            _complain(children)
    finally:
        over.set()
        for child in children:
            child.end()


class _Child:
    """Another rank; what it says is passed on, and its last lines are kept."""

    def __init__(self, rank: int, work: Work, processes: int, port: int) -> None:
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
            start_new_session=True,  # Ctrl-C is for rank 0, which then ends this one
        )
        assert self.process.stdin is not None
        with suppress(BrokenPipeError), self.process.stdin as stdin:
            json.dump(asdict(work), stdin)
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip())
            print(f"[rank {self.rank}] {line.rstrip()}", file=sys.stderr, flush=True)

    def failure(self) -> str | None:
        """What to tell of its end; None while it runs and where it ended well."""
        code = self.process.poll()
        if not code:
            return None
        self._listener.join(timeout=1)
        how = f"was ended by signal {-code} (out of memory?)" if code < 0 else "failed"
        return "\n".join([f"process {self.rank} of those that train together {how}", *self.lines])

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


def _complain(children: Sequence[_Child], cause: Exception | None = None) -> None:
    """Raises the error of the first child that failed; where rank 0 has failed, they have a moment to be seen to have."""
    end = time.monotonic() + (2 * WATCH_S if cause else 0)
    while True:
        for child in children:
            if failure := child.failure():
                raise RankError(failure) from cause
        if time.monotonic() >= end:
            return
        time.sleep(WATCH_S / 5)


def _watch(children: Sequence[_Child], over: threading.Event) -> None:
    """Ends this process where a child has failed and rank 0, hanging in a communication with it, does not notice."""
    while not over.wait(WATCH_S):
        failures = [failure for child in children if (failure := child.failure())]
        if failures and not over.wait(GRACE_S):
            print(f"error: {failures[0]}", file=sys.stderr, flush=True)
            for child in children:
                child.end()
            os._exit(1)


@contextmanager
def _group(rank: int, processes: int, store: Any) -> Iterator[None]:
    """The process group and what accelerate reads of it, in place while the block runs."""
    import torch
    from accelerate.state import AcceleratorState

    before = dict(os.environ)
    os.environ.update(_variables(rank, processes, store.port))
    if sys.platform == "linux":
        os.environ.setdefault(
            "GLOO_SOCKET_IFNAME", "lo"
        )  # all are on this machine, whose name may not resolve
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(rank)
    AcceleratorState._reset_state(
        reset_partial_state=True
    )  # it remembers how many processes an earlier stage had
    torch.distributed.init_process_group(
        "cpu:gloo,cuda:nccl" if cuda else "gloo", store=store, rank=rank, world_size=processes, timeout=NEVER
    )
    ended_well = False
    try:
        yield
        ended_well = True
    finally:
        if ended_well or not cuda:  # NCCL may wait for the dead; after a failure this process ends anyway
            torch.distributed.destroy_process_group()
        AcceleratorState._reset_state(reset_partial_state=True)
        os.environ.clear()
        os.environ.update(before)


def _variables(rank: int, processes: int, port: int) -> dict[str, str]:
    values = (rank, rank, processes, processes, HERE, port)
    return dict(zip(GROUP_VARIABLES, map(str, values), strict=True))


def import_path() -> str:
    """`sys.path` for a child, without what every interpreter of this environment has anyway."""
    given = {
        Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib", "purelib", "platlib")
    }
    given |= {place / "lib-dynload" for place in given}
    places = [Path(place).resolve() for place in sys.path]
    return os.pathsep.join(str(place) for place in places if place.is_dir() and place not in given)


class _Silent:
    """The `harness.protocols.Workspace` of a child: rank 0 reports for all."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def progress(
        self, step: int, total: int, metrics: Mapping[str, float | int | None] | None = None
    ) -> None:
        return


def main() -> None:
    """A child: runs its work and ends at once, by its exit code well or not."""
    from torch.distributed import TCPStore

    from harness.stages.store import load_program

    for number in (
        signal.SIGTERM,
        signal.SIGUSR2,
    ):  # a cluster may send these to every process of a job: rank 0 decides
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    work = Work(**json.load(sys.stdin))
    rank, processes, port = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "MASTER_PORT"))
    try:
        with _group(rank, processes, TCPStore(HERE, port, processes, is_master=False)):
            inputs = {name: Path(folder) for name, folder in work.inputs.items()}
            load_program(work.program)(_Silent(Path(work.folder)), dict(work.settings), inputs)
    except BaseException:
        traceback.print_exc()
        _exit(1)
    _exit(0)


def _exit(code: int) -> NoReturn:
    """Ends without taking the interpreter down in order: threads of torch may outlive it, and abort a process that has done its work."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(WATCH_S)
    os._exit(1)


if __name__ == "__main__":
    main()
