"""`python -m harness.bench real_size`: what a model of real size takes, phase by phase, with random weights.

Every phase runs in a process of its own, so that its peak of memory is its own. The settings are those of
`preset=paper_1b` with short chains, few samples, and the prompts and simulated experts of the miniature.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from hydra.utils import get_object

from harness import command
from harness.command import Choice
from harness.composition.arguments import UsageError
from harness.composition.components import make
from harness.stages.program import Metrics, SilentWorkspace, load_program, peak_memory_mb
from harness.study import memory
from harness.study.memory import GB, StageMemory, gigabytes
from harness.types import Prompt, Sampling

if TYPE_CHECKING:
    from harness.protocols import Policy, PolicyRecipe, RealSize

Result = TypeVar("Result")
SMALL = (  # experts and data of the miniature, and as little work as has every part of a step
    *("benchmarks=shapes", "judge=simulated", "grounder=oracle", "phrase_grounder=simulated"),
    *("clip=simulated", "hps=oracle", "data=benchmark", "trainers=grpo"),
    *("rollout.max_chain_tokens=24", "evaluation.batch_size=1", "evaluation.images_per_prompt=1"),
    *("grpo.steps=2", "grpo.prompts=1", "grpo.samples=2", "grpo.micro_batch=1", "grpo.rollout_batch=null"),
    *("grpo.checkpoint_every=1", "resources.processes=1"),
)
RECORDS = 2
SFT = (  # a record of the miniature has a chain of about 100 tokens
    *("trainers=sft", "data=got", f"sft.records={RECORDS}", "sft.condition_dropout=0"),
    *(
        "sft.steps=1",
        "sft.batch_size=1",
        "sft.micro_batch=1",
        "sft.fsdp=false",
        "rollout.max_chain_tokens=128",
    ),
)
CHAIN = 8  # tokens that a model draws which is only tried
SPARE_GB = 1.5  # of this machine's memory, which a phase leaves to others


@dataclass(frozen=True, kw_only=True)
class Phase:
    """Work that ran in a process of its own.

    `seconds` are those of the work alone, `peak_bytes` those of the whole process: resident memory, or on a
    GPU what torch allocated there. `estimate_bytes` is what `harness.doctor` says; None: nothing.
    """

    name: str
    seconds: float
    peak_bytes: float
    estimate_bytes: float | None
    amount: float
    unit: str

    def __str__(self) -> str:
        rate = f"{self.amount / self.seconds:.3g} {self.unit}/s"
        estimate = "no estimate"
        if self.estimate_bytes is not None:
            gap = self.estimate_bytes / self.peak_bytes - 1
            estimate = f"estimated {gigabytes(self.estimate_bytes)} ({gap:+.0%})"
        peak = gigabytes(self.peak_bytes)
        return f"{self.name:<40} {self.seconds:>7.1f} s  {rate:<18}  peak {peak}, {estimate}"


@dataclass(frozen=True, kw_only=True)
class Task:
    """A phase to run, as plain values with which another process is started.

    Attributes:
        name: of the phase.
        do: a key of `TASKS`.
        models: `PolicyRecipe.real_size`.
        model: the name of one of them.
        checkpoint: the folder that is written or read.
        work: the folder for what else the phase reads or writes.
        words: of the cell.
    """

    name: str
    do: str
    models: str
    model: str
    checkpoint: str
    work: str
    words: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Done:
    """What a task has done, in how many seconds, and the estimate of its memory."""

    seconds: float
    amount: float
    unit: str
    estimate_bytes: float | None = None


class NoRoomError(Exception):
    """This machine has too little memory or disk for a phase."""


def phases(chosen: Choice) -> Iterator[Phase | str]:
    """Measures every model of real size that the policy offers. Yields a line for what is left out.

    Raises:
        UsageError: the policy offers none.
        ValueError: a phase failed.
    """
    recipe: PolicyRecipe = make(chosen.samples.settings["policy"])
    if recipe.real_size is None:
        raise UsageError("the policy of policies= offers no model of real size: use policies=tiny_janus")
    outputs = chosen.store.root.parent
    outputs.mkdir(parents=True, exist_ok=True)
    for model in get_object(recipe.real_size)():
        with tempfile.TemporaryDirectory(prefix="real_size-", dir=outputs) as folder:
            try:
                for task in tasks(recipe.real_size, model, Path(folder), chosen):
                    yield run(task)
            except NoRoomError as error:
                yield f"{model.name}: the rest is left out: {error}"


def tasks(models: str, model: RealSize, folder: Path, chosen: Choice) -> Iterator[Task]:
    """The phases of a model, in order. The user's words win over those of the model and the bench."""
    start = folder / "start" / "checkpoint"

    def task(name: str, do: str, *words: str, checkpoint: Path = start) -> Task:
        return Task(
            name=f"{model.name}: {name}",
            do=do,
            models=models,
            model=model.name,
            checkpoint=str(checkpoint),
            work=str(folder),
            words=[*model.words, *SMALL, *words, f"policies.checkpoint={checkpoint}", *chosen.words],
        )

    _check_disk(folder, model.disk_bytes)
    yield task("write", "write")
    if "load" in model.parts:
        yield task("load to draw", "load")
    if "chain" in model.parts:
        yield task(f"write {CHAIN} tokens", "chain", f"rollout.max_chain_tokens={CHAIN}")
    if "draw" in model.parts:
        yield task("draw a prompt", "draw")
        yield task("decode an image", "decode")
    if "grpo" in model.parts:
        yield task("GRPO step with LoRA", "grpo")
        _check_disk(folder, model.disk_bytes)
        yield task("resume, GRPO step, save", "grpo")
        yield task("load what was saved", "load", checkpoint=folder / "grpo" / "checkpoint")
    if "sft" in model.parts:
        words = (*SFT, *_write_records(folder, chosen))
        yield task(f"encode {RECORDS} records", "tokens", *words)
        yield task("SFT step", "sft", *words)


def _write_records(folder: Path, chosen: Choice) -> list[str]:
    """Writes records of the chosen benchmark as files, and returns the words that read them."""
    rows = []
    benchmark = make(chosen.samples.settings["benchmark"])
    for number, record in enumerate(benchmark.records(0, RECORDS)):
        image = f"{number}.png"
        record.image.save(folder / image)
        rows.append({"prompt": record.prompt.text, "got": record.chain, "image": image})
    file = folder / "records.json"
    file.write_text(json.dumps(rows), encoding="utf-8")
    return [f"data.sources.flux.shards={file}", f"data.sources.flux.images={folder}"]


def _check_disk(folder: Path, needed: float) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed + SPARE_GB * GB:
        raise NoRoomError(
            f"{folder.parent} has {gigabytes(free)} free, and a checkpoint takes {gigabytes(needed)}:"
            " free some, or name another folder with outputs_dir=FOLDER"
        )


def run(task: Task) -> Phase:
    """Runs a task in a process of its own.

    Raises:
        NoRoomError: this machine has too little memory.
        ValueError: the task failed.
    """
    program = [sys.executable, "-m", "harness.real_size", json.dumps(asdict(task))]
    done = subprocess.run(program, stdout=subprocess.PIPE, text=True, encoding="utf-8", check=False)
    if done.returncode:
        raise ValueError(
            f"the phase {task.name!r} ended with code {done.returncode}; its messages are above. A negative"
            " code is a signal, and -9 often means that the memory ran out"
        )
    answer = json.loads(done.stdout.splitlines()[-1])
    if "no_room" in answer:
        raise NoRoomError(answer["no_room"])
    return Phase(name=task.name, **answer)


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
        return make(self.stage.settings["policy"]).load_to_draw(self._checkpoint)

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
