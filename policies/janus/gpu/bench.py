"""The phases of Janus in `harness.bench gpu`, with their sizes on a real GPU."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from harness.protocols import GpuBench, GpuPhase
from policies.janus.gpu import checks, speed
from policies.janus.gpu.subject import Load
from policies.janus.real_size import ONE_B, SEVEN_B, Size

SMALL_VQ = {"ch": 32, "ch_mult": [1, 1, 2], "z_channels": 64, "num_res_blocks": 1}
SMALL_SIGLIP = {"width": 32, "layers": 1, "heads": 2, "patch_size": 4, "mlp_ratio": 2}


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What the phases run: models, and the work of each phase.

    `small` is checked against the CPU, so that it must be quick there; its chains and images still span
    several buckets of `policies.janus.steps`.
    """

    small: Size
    one: Size
    seven: Size
    equality: Load
    gap: Load
    rollout: Load
    decoded: int


REAL = Sizes(
    small=Size(
        name="small",
        hidden=256,
        inner=704,
        layers=3,
        heads=4,
        base=4096,
        vocabulary=5120,
        pad=2,
        codes=1024,
        side=16,
        vq=SMALL_VQ,
        siglip=SMALL_SIGLIP,
    ),
    one=ONE_B,
    seven=SEVEN_B,
    equality=Load(rows=6, group=2, prompt=24, chain=160),
    gap=Load(rows=8, group=2, prompt=40, chain=64),
    rollout=Load(rows=64, group=8, prompt=40, chain=128),
    decoded=64,
)
STUDY = (  # the paper's GRPO step, with the miniature's prompts and experts: no files, no network
    "preset=paper_1b",
    "benchmarks=shapes",
    "judge=simulated",
    "grounder=oracle",
    "phrase_grounder=simulated",
    "clip=simulated",
    "hps=oracle",
    "data=benchmark",
    "sft.steps=0",
    "reports_dir=null",
)


def bench(device: str, work: Path) -> GpuBench:
    """The phases for a real GPU."""
    return sized(REAL, device, work)


def sized(sizes: Sizes, device: str, work: Path) -> GpuBench:
    """The phases for models and work of any size."""
    phases = [
        GpuPhase(
            name="CPU against GPU, float32",
            run=partial(checks.equality, sizes.small, sizes.equality, device),
            seconds=30,
            importance=10,
            gigabytes=2,
        ),
        GpuPhase(
            name="CUDA graphs, float32",
            run=partial(checks.graphs, sizes.small, sizes.equality, device),
            seconds=10,
            importance=11,
            gigabytes=2,
        ),
        GpuPhase(
            name=f"bfloat16, {sizes.one.name}",
            run=partial(checks.gap, sizes.one, sizes.gap, device),
            seconds=20,
            importance=12,
            gigabytes=16,
        ),
        GpuPhase(
            name=f"rollout, {sizes.one.name}",
            run=partial(speed.rollout, sizes.one, sizes.rollout, device),
            seconds=25,
            importance=20,
            gigabytes=24,
        ),
        GpuPhase(
            name=f"CUDA graphs, {sizes.one.name}",
            run=partial(checks.graph_speed, sizes.one, sizes.rollout, device),
            seconds=45,
            importance=21,
            gigabytes=24,
        ),
        GpuPhase(
            name=f"load, {sizes.one.name}",
            run=partial(speed.loading, sizes.one, work, device),
            seconds=50,
            importance=25,
            gigabytes=8,
        ),
        GpuPhase(
            name="decode",
            run=partial(speed.decode, sizes.one, sizes.decoded, device),
            seconds=10,
            importance=35,
            gigabytes=8,
        ),
        GpuPhase(
            name=f"rollout, {sizes.seven.name}",
            run=partial(speed.rollout, sizes.seven, sizes.rollout, device),
            seconds=50,
            importance=60,
            gigabytes=62,
        ),
    ]
    words = partial(study, sizes.one, work)
    return GpuBench(phases=phases, step_words=words, step_gigabytes=28)


def study(size: Size, work: Path) -> list[str]:
    """The words of the GRPO run whose step is timed; writes its checkpoint if it is missing."""
    folder = speed.checkpoint_folder(size, work)
    return [*STUDY, f"policies.checkpoint={folder}", f"outputs_dir={work / 'outputs'}"]
