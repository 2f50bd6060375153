"""Phases of `harness.bench gpu` that a process can find by their dotted path."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

from harness.protocols import GpuBench, GpuPhase, Measured


def passes() -> Iterator[Measured]:
    yield Measured(name="difference", value=0.5, at_most=1.0)
    yield Measured(name="process", value=os.getpid())


def fails() -> Iterator[Measured]:
    yield Measured(name="before", value=1.0)
    raise RuntimeError("out of memory\nand more")


def crashes() -> Iterator[Measured]:
    yield Measured(name="before", value=1.0)
    os._exit(7)


def hangs() -> Iterator[Measured]:
    time.sleep(600)
    yield Measured(name="never", value=1.0)


def phase(run, importance: int, **settings: float) -> GpuPhase:
    name = f"{run.__name__} {importance}"
    return GpuPhase(**{"name": name, "run": run, "seconds": 1.0, "importance": importance, **settings})


def bench(device: str, work: Path) -> GpuBench:
    phases = [
        phase(passes, 5),
        phase(passes, 1),
        phase(passes, 2),
        phase(fails, 3),
        phase(crashes, 4),
        phase(passes, 6, gpus=2),
        phase(passes, 7, gigabytes=99.0),
        phase(passes, 8, seconds=1e6),
    ]
    return GpuBench(phases=phases)


def slow(device: str, work: Path) -> GpuBench:
    return GpuBench(phases=[phase(hangs, 1, seconds=0.01), phase(passes, 2)])


def scorers(device: str) -> list[GpuPhase]:
    return [phase(passes, 0)]
