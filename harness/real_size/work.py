"""`python -m harness.real_size.work TASK`: does the work of one phase in this process, and measures it."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from hydra.utils import get_object

from harness import command
from harness.composition.components import make
from harness.evaluation.load import load_to_draw
from harness.real_size.phases import RECORDS, SPARE_GB, NoRoomError, Task
from harness.stages.program import Metrics, SilentWorkspace, load_program, peak_memory_mb
from harness.study import memory
from harness.study.memory import GB, StageMemory, gigabytes
from harness.types import Prompt, Sampling

if TYPE_CHECKING:
    from harness.protocols import Policy, RealSize

Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class Done:
    """What a task has done, in how many seconds, and the estimate of its memory."""

    seconds: float
    amount: float
    unit: str
    estimate_bytes: float | None = None


def main(text: str) -> None:
    """Runs the task of this process. The last line of its output is the result, as JSON."""
    task = Task(**json.loads(text))
    try:
        model = next(model for model in get_object(task.models)() if model.name == task.model)
        answer = {**asdict(TASKS[task.do](task, model)), "peak_bytes": _peak_bytes()}
    except NoRoomError as error:
        answer = {"no_room": str(error)}
    print(json.dumps(answer))


def _write(task: Task, model: RealSize) -> Done:
    seconds, _ = _timed(lambda: model.write(Path(task.checkpoint)))
    return Done(seconds=seconds, amount=_gigabytes_in(task), unit="GB")


def _load(task: Task, model: RealSize) -> Done:
    cell = _Planned(task, "samples")
    needed = cell.needs(lambda estimate: sum(item.bytes for item in estimate.resident))
    seconds, _ = _timed(cell.load_to_draw)
    return Done(seconds=seconds, amount=_gigabytes_in(task), unit="GB", estimate_bytes=needed)


def _chain(task: Task, model: RealSize) -> Done:
    cell = _Planned(task, "samples")
    needed = cell.needs(lambda estimate: estimate.peak_of("rollout"))
    policy = cell.load_to_draw()
    seconds, chains = _timed(lambda: policy.write(cell.prompts(), [0], cell.sampling))
    tokens = sum(len(chain.logprobs) for chain in chains)
    return Done(seconds=seconds, amount=tokens, unit="tokens", estimate_bytes=needed)


def _draw(task: Task, model: RealSize) -> Done:
    cell = _Planned(task, "samples")
    needed = cell.needs(lambda estimate: estimate.peak)
    policy = cell.load_to_draw()
    seconds, samples = _timed(lambda: policy.rollout(cell.prompts(), [0], cell.sampling))
    tokens = sum(len(sample.logprobs) for sample in samples)
    return Done(seconds=seconds, amount=tokens, unit="tokens", estimate_bytes=needed)


def _decode(task: Task, model: RealSize) -> Done:
    cell = _Planned(task, "samples")
    needed = cell.needs(lambda estimate: estimate.peak_of("image decoding"))
    policy = cell.load_to_draw()
    seconds, _ = _timed(lambda: model.decode(policy))
    return Done(seconds=seconds, amount=1, unit="images", estimate_bytes=needed)


def _grpo(task: Task, model: RealSize) -> Done:
    cell = _Planned(task, "grpo")
    needed = cell.needs(lambda estimate: estimate.peak)
    seconds = cell.take_step(Path(task.work) / "grpo", {})
    samples = cell.stage.settings["grpo"]["samples"]
    return Done(seconds=seconds, amount=samples, unit="samples", estimate_bytes=needed)


def _tokens(task: Task, model: RealSize) -> Done:
    cell = _Planned(task, "tokens")
    folder = Path(task.work) / "tokens"
    folder.mkdir()
    inputs = {"start": Path(task.checkpoint).parent}
    program = load_program(cell.stage.program)
    seconds, _ = _timed(lambda: program(SilentWorkspace(folder), dict(cell.stage.settings), inputs))
    return Done(seconds=seconds, amount=RECORDS, unit="records")


def _sft(task: Task, model: RealSize) -> Done:
    cell = _Planned(task, "sft")
    needed = cell.needs(lambda estimate: estimate.peak)
    seconds = cell.take_step(Path(task.work) / "sft", {"tokens": Path(task.work) / "tokens"})
    return Done(seconds=seconds, amount=1, unit="records", estimate_bytes=needed)


TASKS: dict[str, Callable[[Task, RealSize], Done]] = {
    "write": _write,
    "load": _load,
    "chain": _chain,
    "draw": _draw,
    "decode": _decode,
    "grpo": _grpo,
    "tokens": _tokens,
    "sft": _sft,
}


class _Planned:
    """A stage of the cell that a task's words describe."""

    def __init__(self, task: Task, stage: str) -> None:
        self._chosen = command.choose(task.words)
        self._checkpoint = Path(task.checkpoint)
        self.stage = next(one for one in self._chosen.cell.stages if one.name == stage)

    def needs(self, part: Callable[[StageMemory], float]) -> float | None:
        """The estimate of memory; None where the sizes are not known.

        Raises:
            NoRoomError: this machine has less.
        """
        gpu = _cuda() is not None
        config, store = self._chosen.cell.config, self._chosen.store
        estimate = memory.estimate(self.stage, config, store, processes=1, gpu=gpu)
        if estimate is None:
            return None
        needed, room = part(estimate), _room()
        if room is not None and needed > room:
            raise NoRoomError(f"it takes about {gigabytes(needed)} of memory, and {gigabytes(room)} are free")
        return needed

    def load_to_draw(self) -> Policy:
        return load_to_draw(self.stage.settings["policy"], self._checkpoint)

    @property
    def sampling(self) -> Sampling:
        return Sampling(**self.stage.settings["evaluation"]["rollout"])

    def prompts(self) -> list[Prompt]:
        settings = self.stage.settings
        return make(settings["benchmark"]).prompts(settings["evaluation"]["split"])[:1]

    def take_step(self, folder: Path, inputs: Mapping[str, Path]) -> float:
        """Runs the stage for one step, which it saves. Returns the seconds of the step and of saving."""
        folder.mkdir(exist_ok=True)
        work = _OneStep(folder)
        with suppress(_Enough):
            program = load_program(self.stage.program)
            program(work, dict(self.stage.settings), {"start": self._checkpoint.parent, **inputs})
        return time.perf_counter() - work.began


class _Enough(Exception):
    """The step was taken."""


class _OneStep(SilentWorkspace):
    """A workspace in which a program takes one step and saves it; the last step ends as it always does."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.began = time.perf_counter()
        self._taken = False

    def steps(self, first: int, total: int) -> Iterator[int]:
        self.began = time.perf_counter()
        yield first
        if first + 1 < total:
            raise _Enough

    def progress(self, step: int, total: int, metrics: Metrics | None = None) -> None:
        self._taken = True

    def stopping(self) -> bool:
        return self._taken


def _timed(work: Callable[[], Result]) -> tuple[float, Result]:
    began = time.perf_counter()
    result = work()
    if cuda := _cuda():
        cuda.synchronize()
    return time.perf_counter() - began, result


def _gigabytes_in(task: Task) -> float:
    return sum(file.stat().st_size for file in Path(task.checkpoint).iterdir()) / GB


def _cuda() -> Any:
    """torch.cuda where it can be used, else None."""
    import torch

    return torch.cuda if torch.cuda.is_available() else None


def _room() -> float | None:
    """Bytes that are free, of the GPU or of this machine's memory; None where that is not known."""
    if cuda := _cuda():
        return cuda.mem_get_info()[0]
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        available = next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError):  # not Linux
        return None
    return available * 1024 - SPARE_GB * GB


def _peak_bytes() -> float:
    cuda = _cuda()
    return cuda.max_memory_allocated() if cuda else peak_memory_mb() * 2**20


if __name__ == "__main__":
    main(sys.argv[1])
