"""The phases: what each model of real size is asked to do, and the processes that do it.

Every phase runs in a process of its own, so that its peak of memory is its own. The settings are those of the
model's preset with short chains, few samples, and the prompts and simulated experts of the miniature.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.utils import get_object

from harness.command import Choice
from harness.composition.arguments import UsageError
from harness.composition.components import make
from harness.study.memory import GB, gigabytes

if TYPE_CHECKING:
    from harness.protocols import PolicyRecipe, RealSize

SMALL = (  # experts and data of the miniature, and as little work as has every part of a step
    *("benchmarks=shapes", "judge=simulated", "grounder=oracle", "phrase_grounder=simulated"),
    *("clip=simulated", "hps=oracle", "data=benchmark", "trainers=grpo"),
    *("rollout.max_chain_tokens=24", "evaluation.batch_size=1", "evaluation.images_per_prompt=1"),
    *("grpo.steps=2", "grpo.prompts=1", "grpo.samples=2", "grpo.micro_batch=1", "grpo.rollout_batch=null"),
    *("grpo.checkpoint_every=1", "resources.processes=1"),
)
RECORDS = 2
SFT = (  # a record of the miniature has a chain of about 100 tokens
    *("trainers=sft", "data=got", f"sft.records={RECORDS}", "sft.condition_dropout=0", "sft.steps=1"),
    *("sft.batch_size=1", "sft.micro_batch=1", "sft.fsdp=false", "rollout.max_chain_tokens=128"),
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
        do: a key of `harness.real_size.work.TASKS`.
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
    program = [sys.executable, "-m", "harness.real_size.work", json.dumps(asdict(task))]
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
