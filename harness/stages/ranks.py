"""Ranks: processes that run a stage's program together, as long as their job lives.

Rank 0 makes the stages. It publishes every `ProgramCall` in its store (torch's TCPStore). The other ranks
wait for the next call and make it in a `torch.distributed` group with rank 0. They report no progress.

On Slurm each rank is a task of srun, on one or several nodes. Elsewhere rank 0 starts the others
(`harness.stages.children`). `python -m harness.stages.ranks` is such a process. It needs nothing but
torch.distributed's environment variables.

A rank that fails ends the others, with its last lines as the error. A rank ends when rank 0 is gone. A
request to stop reaches all ranks through the store, whichever rank got the signal.
"""

from __future__ import annotations

import atexit
import gc
import itertools
import json
import os
import sys
import sysconfig
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

from harness.settings import whole_number
from harness.stages import loaded, program, sources, stop
from harness.stages.children import LAST_LINES, Child
from harness.stages.process_group import VARIABLES, Place, connect, group
from harness.types import Stage

POLL_S = 0.05
WATCH_S = 0.2
GRACE_S = 20.0  # how long rank 0 may take to notice a failed rank by itself, before it is ended
SILENT_S = 3.0  # a rank that gives no sign of life for so long has ended
LEAVE_S = 10.0  # how long rank 0 waits for the others to end
END, LEFT, FAILED, STOP = "end", "left", "failed", "stop"  # keys in the store


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


def check(nodes: Any, processes: Any, stages: Sequence[Stage]) -> None:
    """Checks that `processes` processes on each of `nodes` nodes can share the items of a step evenly.

    Raises:
        ValueError: one of them is no whole number from 1, or their product does not divide the items.
    """
    whole_number("resources.nodes", nodes)
    whole_number("resources.processes", processes)
    for stage in stages:
        if stage.parallel is not None and stage.parallel % (nodes * processes):
            raise ValueError(
                f"resources.nodes={nodes} x resources.processes={processes} must divide the {stage.parallel}"
                f" items of a step of {stage.name!r}. Change one of them (grpo.prompts, dpo.pairs,"
                " sft.batch_size)"
            )


class Ranks:
    """The ranks of a job, for rank 0.

    Args:
        processes: how many this process starts itself, itself included, when they are first needed.
        place: the place of this process where something else starts the others.
        helping: the others are idle cores that help, so they make only stages with `Stage.halves`.

    Raises:
        RuntimeError: the port of `place` is taken.
    """

    def __init__(self, processes: int = 1, place: Place | None = None, *, helping: bool = False) -> None:
        self._helping = helping
        self._started_elsewhere = place is not None
        self._place = place or Place(world=processes, local_world=processes)
        self._children: list[Child] = []
        self._store: Any = connect(self._place) if place is not None and place.world > 1 else None
        self._calls = 0
        self.last_words: Callable[[str], None] = lambda failure: None
        """Is called with the failure of another rank when this process must end without an exception."""

    @property
    def world(self) -> int:
        """The number of ranks."""
        return self._place.world

    def makers(self, stage: Stage) -> int:
        """The number of ranks that make the stage."""
        together = stage.halves if self._helping else stage.parallel is not None
        return self.world if together else 1

    @contextmanager
    def together(self, call: ProgramCall) -> Iterator[None]:
        """Makes the call in all other ranks while the block makes it in rank 0, in one process group.

        Raises:
            RankError: another rank failed, and rank 0 did not fail for a reason of its own.
            Stopped: another rank was stopped.
        """
        if self._store is None:
            self._start()
        self._calls += 1
        self._store.set(_call_key(self._calls), json.dumps(asdict(call)))
        finished = threading.Event()
        threading.Thread(target=self._watch, args=(finished,), daemon=True).start()
        try:
            with group(self._place, self._store, _call_key(self._calls)):
                yield
                self._wait_for_others()
        except BaseException as error:
            failure = self._behind(error)
            self.close(wait=failure is None and not self._children)
            if failure is not None:
                raise RankError(failure) from error
            raise
        finally:
            finished.set()

    def close(self, *, wait: bool = True) -> None:
        """Ends the other ranks. With `wait` they end first, and srun sees no failure of theirs."""
        if self._store is not None:
            with suppress(RuntimeError):
                self._store.set(END, "")
                if wait:
                    self._wait_for_leaving()
        for child in self._children:
            child.end()
        self._store, self._children = None, []
        atexit.unregister(self.close)

    def _start(self) -> None:
        if self._started_elsewhere:
            raise RankError("the other ranks of this job have ended")
        self._store = connect(self._place)
        self._calls = 0
        environment = {**os.environ, "PYTHONPATH": import_path(), "PYTHONSAFEPATH": "1"}
        for rank in range(1, self.world):
            place = replace(self._place, rank=rank, local_rank=rank, port=self._store.port)
            self._children.append(Child(place, environment))
        atexit.register(self.close)

    def _wait_for_others(self) -> None:
        """Waits until all other ranks have made the call, or one has failed.

        Raises:
            RuntimeError: one has failed.
            Stopped: a stop was requested.
        """
        while self._store.add(_done_key(self._calls), 0) < self.world - 1:
            if self._failure(self._store):
                raise RuntimeError("another rank failed")
            stop.check()
            time.sleep(POLL_S)

    def _wait_for_leaving(self) -> None:
        end = time.monotonic() + LEAVE_S
        while self._store.add(LEFT, 0) < self.world - 1 and time.monotonic() < end:
            if any(child.failure() for child in self._children):
                return
            time.sleep(POLL_S)

    def _behind(self, error: BaseException) -> str | None:
        """The failure of another rank behind an error of rank 0; None if the error is its own.

        Torch raises a RuntimeError where another rank broke the connection. Slurm sends a signal where it has
        ended one. A rank that ended without a word is known by its silence.
        """
        if not isinstance(error, RuntimeError | stop.Stopped):
            return None
        heard, end = self._beats(), time.monotonic() + SILENT_S
        while not (failure := self._failure(self._store)):
            if time.monotonic() > end:
                silent = [str(rank) for rank, beats in self._beats().items() if beats == heard[rank]]
                return (
                    f"rank {', '.join(silent)} has ended without a word (out of memory?)" if silent else None
                )
            if self._children and isinstance(error, stop.Stopped):
                return None
            time.sleep(POLL_S)
        return failure

    def _beats(self) -> dict[int, int]:
        """Rank -> how often it has given a sign of life."""
        return {rank: self._store.add(_beat_key(rank), 0) for rank in range(1, self.world)}

    def _failure(self, store: Any) -> str | None:
        if store.check([FAILED]):
            return str(store.get(FAILED).decode())
        for child in self._children:
            if failure := child.failure():
                return failure
        return None

    def _watch(self, finished: threading.Event) -> None:
        """Ends this process if another rank failed and rank 0 hangs in a communication with it."""
        with suppress(RuntimeError):  # the store is closed
            store = connect(replace(self._place, port=self._store.port), joins=True)
            while not finished.wait(WATCH_S):
                _share_request(store)
                failure = self._failure(store)
                if failure and not finished.wait(GRACE_S):
                    print(f"error: {failure}", file=sys.stderr, flush=True)
                    self.last_words(failure)
                    for child in self._children:
                        child.end()
                    _exit(1)


def follow(place: Place) -> NoReturn:
    """Makes the calls of rank 0 until it ends, and ends this process with it."""
    stop.install()
    try:
        store = connect(place)
        threading.Thread(target=_end_with_rank_0, args=(place,), daemon=True).start()
        for number in itertools.count(1):
            call = _next_call(store, number)
            with group(place, store, _call_key(number)):
                _make(call)
            store.add(_done_key(number), 1)
            _free_memory()
    except stop.Stopped:  # rank 0 stops too, and says when to end; an exit code would end it too early
        threading.Event().wait()
    except BaseException:
        traceback.print_exc()
        lines = traceback.format_exc().rstrip().splitlines()[-LAST_LINES:]
        with suppress(RuntimeError):
            store.set(FAILED, "\n".join([f"rank {place.rank} failed", *lines]))
            time.sleep(GRACE_S)  # an exit code might end rank 0 before it has read that
    _exit(1)


def _next_call(store: Any, number: int) -> ProgramCall:
    while not store.check([_call_key(number)]):
        time.sleep(POLL_S)
    return ProgramCall(**json.loads(store.get(_call_key(number))))


def _make(call: ProgramCall) -> None:
    """Makes the call with the code that the stage's key was made of."""
    inputs = {name: Path(folder) for name, folder in call.inputs.items()}
    roots = [call.program, *sources.targets(call.settings)]
    work = program.SilentWorkspace(Path(call.folder))
    with loaded.guarded(roots, call.sources) if call.sources else nullcontext():
        program.run(call.program, work, dict(call.settings), inputs)


def _free_memory() -> None:
    """Frees what a program has left, for rank 0 may make other stages on the same machine now."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _end_with_rank_0(place: Place) -> None:
    """Ends this process when rank 0 says so or is gone."""
    try:
        store = connect(place, joins=True)
        while not store.check([END]):
            store.add(_beat_key(place.rank), 1)
            _share_request(store)
            time.sleep(WATCH_S)
        store.add(LEFT, 1)
    except RuntimeError:  # the connection is broken
        _exit(1)
    _exit(0)


def _share_request(store: Any) -> None:
    """Passes a request to stop on to the other ranks, or takes one over from them."""
    number = stop.requested()
    if store.check([STOP]):
        if number is None:
            stop.request(int(store.get(STOP)))
    elif number is not None:
        store.set(STOP, str(number))


def _call_key(number: int) -> str:
    return f"call-{number}"


def _done_key(number: int) -> str:
    return f"done-{number}"


def _beat_key(rank: int) -> str:
    return f"beat-{rank}"


def _exit(code: int) -> NoReturn:
    """Ends this process at once. In Python's shutdown, threads of torch may abort a successful process."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def import_path() -> str:
    """`sys.path` for a child, without the folders that every interpreter of this environment has anyway."""
    standard = {
        Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib", "purelib", "platlib")
    }
    standard |= {folder / "lib-dynload" for folder in standard}
    folders = [Path(folder).resolve() for folder in sys.path]
    return os.pathsep.join(str(folder) for folder in folders if folder.is_dir() and folder not in standard)


def main() -> None:
    """A rank other than 0, by the environment variables of torch.distributed."""
    place = Place.of_environment()
    if place is None or place.rank == 0:
        sys.exit(f"give a rank from 1 in the environment variables {', '.join(VARIABLES)}")
    follow(place)


if __name__ == "__main__":
    main()
