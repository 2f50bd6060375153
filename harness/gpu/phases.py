"""All phases of `harness.bench gpu`: those of the policy and the benchmarks, and the harness's own two."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from hydra.utils import get_object

from harness.command import Choice
from harness.composition import groups
from harness.composition.components import make
from harness.gpu.pair import compare
from harness.gpu.step import measure
from harness.protocols import Benchmark, GpuBench, GpuPhase, PolicyRecipe
from harness.study.roles import checked_class

STEP, PAIR = 30, 40  # importance of the harness's own phases


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Where phases come from, as plain values that another process can be started with.

    Attributes:
        device: "cuda"; tests use "cpu".
        work: a folder for files that several phases read.
        policy: `PolicyRecipe.gpu` of the chosen policy.
        benchmarks: `Benchmark.gpu` of the benchmarks that have one.
    """

    device: str
    work: Path
    policy: str | None
    benchmarks: tuple[str, ...]


def sources(chosen: Choice, device: str, work: Path) -> Sources:
    """The chosen policy, with every benchmark that is installed."""
    policy: PolicyRecipe = make(chosen.samples.settings["policy"])
    paths: dict[str, None] = {}
    for found in groups.classes("benchmarks").values():
        benchmark: type[Benchmark] = checked_class("benchmarks", found)
        if benchmark.gpu:
            paths[benchmark.gpu] = None
    return Sources(device=device, work=work, policy=policy.gpu, benchmarks=tuple(paths))


def collect(found: Sources) -> list[GpuPhase]:
    """The phases, the most important first."""
    phases: list[GpuPhase] = []
    if found.policy:
        bench: GpuBench = get_object(found.policy)(found.device, found.work)
        phases += [*bench.phases, *_trained(bench, found)]
    for path in found.benchmarks:
        phases += get_object(path)(found.device)
    repeated = [name for name, count in Counter(phase.name for phase in phases).items() if count > 1]
    assert not repeated, f"phases of equal name: {repeated}"
    return sorted(phases, key=lambda phase: phase.importance)


def _trained(bench: GpuBench, found: Sources) -> Iterable[GpuPhase]:
    """The harness's phases for a policy that can be trained: one step, and two processes."""
    if bench.step_words is None:
        return
    yield GpuPhase(
        name="GRPO step",
        run=partial(measure, bench.step_words, found.device),
        seconds=100,
        importance=STEP,
        gigabytes=bench.step_gigabytes,
    )
    yield GpuPhase(
        name="two processes",
        run=partial(compare, bench.step_words, found.work),
        seconds=70,
        importance=PAIR,
        gigabytes=bench.step_gigabytes,
        gpus=2,
    )
