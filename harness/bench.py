"""`python -m harness.bench`: how fast this machine draws, trains and scores.

Every figure is the median of a few repeats, after one that is not counted.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import command
from harness.command import Choice
from harness.composition.arguments import UsageError
from harness.composition.components import make
from harness.gpu import run as gpu
from harness.launch.environment import job_environment
from harness.names import unknown
from harness.races import laps, per_second, rollout_races, score_races
from harness.real_size.phases import Phase, phases
from harness.reward.function import RewardFunction, used_components
from harness.seeds import derive, of_batch
from harness.stages import provenance
from harness.stages.program import Stoppable, load_program
from harness.types import Prompt, Sample, Sampling, Stage

if TYPE_CHECKING:
    from harness.protocols import Race

REPEATS = 5
PARTS = 4  # of a step without grpo.rollout_batch
GRPO = "harness.trainers.grpo.train"
USAGE = """\
Measures how fast this machine draws, trains and scores.

  python -m harness.bench [rollout] [grpo] [score] [variants] [waiting] [real_size] [gpu]

rollout    tokens per second of rollouts, and of their chains and images separately; then rollouts of
           a larger random model, compared with other systems that can make them (minutes)
grpo       training steps per minute: rollouts, rewards and update
score      images per second of the benchmark's scorers and of the reward; then the scorers of all
           installed benchmarks, compared with other ways to the same scores (minutes)
variants   seconds of a GRPO step under other settings (advantage=gdpo, grpo.credit=split, ...), and their
           ratio to those of the step unchanged. Only where it is named: about two minutes with
           preset=miniature
waiting    seconds of a GRPO step whose judge lets it wait: parts of grpo.rollout_batch samples rewarded
           beside the drawing, and after it. Only where it is named
real_size  a Janus-Pro-1B of random weights, phase by phase: loaded, drawn with, trained, saved; then a 7B
           where memory and disk allow. Seconds and peak of memory beside the estimate of harness.doctor. Only
           where it is named: half an hour on two cores, 9 GB of disk in outputs_dir= (the 7B: 15 GB)
gpu        checks and measurements on a CUDA GPU, in at most eight minutes (docs/gpu.md): only where it is
           named
KEY=VALUE  as in a sweep: evaluation.batch_size=, grpo.samples=, resources.threads=, ...
           The SFT checkpoint is made first where it is missing.
"""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """`amount` units of work, done in each of `seconds`; `setting` is what it was measured with."""

    name: str
    amount: float
    unit: str
    seconds: Sequence[float]
    setting: str
    per_s: float = 1.0

    def __str__(self) -> str:
        median, repeats = statistics.median(self.seconds), len(self.seconds)
        rate = per_second(self.amount * self.per_s, median)
        digits = 0 if rate >= 100 else 2
        spread = f"{median:.3g} s ({min(self.seconds):.3g} to {max(self.seconds):.3g}, {repeats} repeats)"
        return f"{self.name:<16} {rate:>8,.{digits}f} {self.unit:<9}  {spread}; {self.setting}"


def main(argv: Sequence[str] | None = None) -> int:
    return command.run(bench, sys.argv[1:] if argv is None else argv, USAGE)


def bench(words: list[str]) -> None:
    """Measures the benches that are named, or the usual ones, and prints the figures."""
    names, rest = read_words(words)
    chosen = command.choose(rest)
    with job_environment(chosen.threads):
        for name in names:
            if name == GPU:
                gpu.bench(chosen)
                continue
            for figure in BENCHES[name](chosen):
                print(f"{figure}; {_machine(chosen)}", flush=True)
            for lap in laps(RACES[name](chosen) if name in RACES else (), _machine(chosen, precision=False)):
                print(lap, flush=True)


def read_words(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The benches that the first words name (the usual ones if none does), and the other words."""
    names = list(takewhile(_is_name, words))
    for name in names:
        if name not in (*BENCHES, GPU):
            raise UsageError(unknown("bench", name, (*BENCHES, GPU)))
    return list(dict.fromkeys(names)) or list(USUAL), list(words[len(names) :])


def _is_name(word: str) -> bool:
    return "=" not in word and not word.startswith(("-", "~"))


def rollout(chosen: Choice) -> list[Figure]:
    """Rollouts, then rollouts with chains cut to one token, whose time is that of the image phase."""
    policy, prompts, seeds, sampling = _ready(chosen)
    samples: list[Sample] = []

    def full_rollout() -> None:
        samples[:] = policy.rollout(prompts, seeds, sampling)

    seconds = _timed(full_rollout)
    image_seconds = _timed(lambda: policy.rollout(prompts, seeds, replace(sampling, max_chain_tokens=1)))
    image_median = statistics.median(image_seconds)
    chain = sum(len(sample.tokens.chain) for sample in samples)
    image = sum(len(sample.tokens.image) for sample in samples)
    batch = f"batch {len(prompts)}"
    return [
        Figure(
            name="rollout",
            amount=chain + image,
            unit="tokens/s",
            seconds=seconds,
            setting=f"{batch}, {chain} chain + {image} image tokens",
        ),
        Figure(
            name="rollout, chains",
            amount=chain,
            unit="tokens/s",
            seconds=[max(total_s - image_median, 0.0) for total_s in seconds],
            setting=f"{batch}, whole rollouts less the image phase",
        ),
        Figure(
            name="rollout, images",
            amount=image,
            unit="tokens/s",
            seconds=image_seconds,
            setting=f"{batch}, chains cut to one token",
        ),
    ]


def grpo(chosen: Choice) -> list[Figure]:
    """A few steps of the trainer's last stage, as they are, in a temporary folder."""
    stage = chosen.trained
    inputs = {name: command.obtain(source, chosen.store) for name, source in stage.inputs.items()}
    with tempfile.TemporaryDirectory() as folder:
        work = _Stopwatch(Path(folder))
        with suppress(_Enough):
            load_program(stage.program)(work, dict(stage.settings), inputs)
    if not work.seconds:
        raise UsageError(
            f"the stage {stage.name} has too few steps to be timed: raise {stage.name}.steps to at least 2"
        )
    return [
        Figure(
            name=stage.name,
            amount=1,
            unit="steps/min",
            seconds=work.seconds,
            setting=_batch(stage) or "batch as the trainer has it",
            per_s=60,
        )
    ]


def _batch(stage: Stage) -> str:
    numbers = stage.settings.get(stage.name, {})
    names = ("prompts", "samples", "batch_size", "inner_epochs", "micro_batch")
    return ", ".join(f"{name} {numbers[name]}" for name in names if name in numbers)


def variants(chosen: Choice) -> Iterator[str]:
    """What a step of GRPO costs under each variant, beside the step unchanged."""
    stage = _grpo(chosen, "variants")
    from harness.trainers import bench as steps  # torch, which reads the job's environment

    able, refused = steps.choose_variants(stage.settings)
    for name, reason in refused.items():
        print(f"{name} is left out: {reason}", file=sys.stderr)
    start = command.obtain(stage.inputs["start"], chosen.store)
    for cost in steps.variant_costs(stage.settings, start, able):
        yield f"{cost}; {_batch(stage)}"


def waiting(chosen: Choice) -> Iterator[str]:
    """What a step of GRPO gains if a judge answers while the next part of the step is drawn."""
    stage = _grpo(chosen, "waiting")
    from harness.trainers import bench as steps

    grpo = stage.settings["grpo"]
    count = grpo["prompts"] * grpo["samples"]
    size = grpo["rollout_batch"] or max(1, count // PARTS)
    if size >= count:
        raise UsageError(f"grpo.rollout_batch={size} must be below the {count} samples of a step: lower it")
    settings = {**stage.settings, "grpo": {**grpo, "rollout_batch": size}}
    judge = f"a judge that sleeps {steps.LATENCY_S:g} s per {steps.AT_ONCE} samples"
    start = command.obtain(stage.inputs["start"], chosen.store)
    for cost in steps.waiting_costs(settings, start):
        yield f"{cost}; {judge}; {_batch(stage)}, rollout_batch {size}"


def _grpo(chosen: Choice, bench: str) -> Stage:
    stage = chosen.trained
    if stage.program != GRPO:
        raise UsageError(
            f"the bench {bench} is of GRPO, and the stage {stage.name} runs {stage.program}: use"
            " trainers=sft_grpo or trainers=grpo"
        )
    return stage


def score(chosen: Choice) -> list[Figure]:
    """The benchmark's scorers, and the reward, on one batch of rollouts."""
    policy, prompts, seeds, sampling = _ready(chosen)
    samples = policy.rollout(prompts, seeds, sampling)
    benchmark = make(chosen.scores.settings["benchmark"])
    rewards = RewardFunction(**make(used_components(chosen.cell.config["rewards"])))
    setting = f"batch {len(samples)}"
    return [
        Figure(
            name="score",
            amount=len(samples),
            unit="images/s",
            seconds=_timed(lambda: benchmark.score(samples)),
            setting=setting,
        ),
        Figure(
            name="reward",
            amount=len(samples),
            unit="images/s",
            seconds=_timed(lambda: rewards(samples)),
            setting=f"{setting}, {rewards.total.text}",
        ),
    ]


BENCHES: dict[str, Callable[[Choice], Iterable[Figure | str | Phase]]] = {
    "rollout": rollout,
    "grpo": grpo,
    "score": score,
    "variants": variants,
    "waiting": waiting,
    "real_size": phases,
}
USUAL = ("rollout", "grpo", "score")  # any trainer has these
GPU = "gpu"  # prints a table of its own
RACES: dict[str, Callable[[Choice], Iterable[Race]]] = {"rollout": rollout_races, "score": score_races}


class _Enough(Exception):
    """Enough steps were timed."""


class _Stopwatch(Stoppable):
    """A `harness.protocols.Workspace` that times steps after the first."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.seconds: list[float] = []
        self._last: float | None = None

    def progress(
        self, step: int, total: int, metrics: Mapping[str, float | int | None] | None = None
    ) -> None:
        now = time.perf_counter()
        if self._last is not None:
            self.seconds.append(now - self._last)
        if len(self.seconds) == REPEATS:
            raise _Enough
        self._last = now


def _ready(chosen: Choice) -> tuple[Any, list[Prompt], list[int], Sampling]:
    """The SFT model, or the trained one where there is none, and one batch of prompts, seeds and sampling."""
    settings = chosen.samples.settings
    evaluation = settings["evaluation"]
    checkpoint = command.obtain(_sft(chosen), chosen.store) / "checkpoint"
    size, all_prompts = evaluation["batch_size"], make(settings["benchmark"]).prompts(evaluation["split"])
    prompts = all_prompts[:: max(1, len(all_prompts) // size)][:size]  # of all categories
    if not prompts:
        raise UsageError(
            f"the benchmark has no prompts in split {evaluation['split']!r}: name another evaluation.split"
        )
    sampling = Sampling(**evaluation["rollout"])
    seeds = of_batch((derive(settings["seed"], "bench", prompt.id) for prompt in prompts), sampling.random)
    return make(settings["policy"]).load(checkpoint), prompts, seeds, sampling


def _sft(chosen: Choice) -> Stage:
    return next((stage for stage in chosen.cell.stages if stage.name == "sft"), chosen.trained)


def _timed(work: Callable[[], Any]) -> list[float]:
    work()
    seconds = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return seconds


def _machine(chosen: Choice, *, precision: bool = True) -> str:
    threads = f"{chosen.threads} thread{'s' if chosen.threads > 1 else ''}"
    products = (
        f", precision {chosen.cell.config['policies'].get('precision', 'of the checkpoint')}"
        if precision
        else ""
    )
    torch = provenance.versions().get("torch", "not there")
    return f"{threads}{products}; {provenance.hardware()}, torch {torch}"


if __name__ == "__main__":
    sys.exit(main())
