"""The command behind `make gpu`: all phases that fit the device and the time, their rows, and the verdict."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness import devices
from harness.command import Choice
from harness.composition.arguments import UsageError
from harness.gpu import report
from harness.gpu.phases import Sources, collect, sources
from harness.gpu.worker import Outcome, Worker
from harness.protocols import GpuPhase

BUDGET_S = 8 * 60.0
SPARE_S = 10.0  # for the end: files, and the end of the process
START_S = 20.0  # a process imports torch and transformers, and makes a CUDA context
PATIENCE = 4  # times the expected seconds, then a phase is stopped: other GPUs are slower than an H100


@dataclass(frozen=True, kw_only=True)
class Room:
    """What there is on this machine: GPUs, the memory of the smallest in GB, and the seconds to spend."""

    gpus: int
    gigabytes: float
    budget_s: float = BUDGET_S


def bench(chosen: Choice) -> None:
    """Runs the phases and prints the table; writes it to `outputs_dir`/gpu, as JSON too.

    Raises:
        UsageError: there is no CUDA GPU.
        ValueError: a check failed, or a phase did.
    """
    room = find_room()
    folder = chosen.store.root.parent / "gpu"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as work:
        found = sources(chosen, "cuda", Path(work))
        outcomes = measure(found, room, folder)
    print(report.table(outcomes))
    print(f"\nwritten to {folder / report.JSON} and {folder / report.MARKDOWN}")
    if failed := report.failures(outcomes):
        raise ValueError(f"{len(failed)} checks or phases failed: {'; '.join(failed)}")


def measure(found: Sources, room: Room, folder: Path) -> list[Outcome]:
    """The outcomes of all phases. Both files are rewritten after each."""
    outcomes: list[Outcome] = []
    for outcome in run(found, room):
        outcomes.append(outcome)
        print(report.line(outcome), flush=True)
        report.write(outcomes, folder, found.device)
    return outcomes


def run(found: Sources, room: Room) -> Iterator[Outcome]:
    """Runs the phases, the most important first, while they fit the time that is left."""
    end = time.monotonic() + room.budget_s - SPARE_S
    worker: Worker | None = None
    try:
        for phase in collect(found):
            start_s = 0.0 if worker else START_S
            left_s = end - time.monotonic()
            if reason := misfit(phase, room, left_s - start_s):
                yield Outcome(phase=phase.name, left_out=reason)
                continue
            worker = worker or Worker(found)
            outcome = worker.run(phase, min(left_s, start_s + PATIENCE * phase.seconds))
            if outcome.failure:
                worker.end()
                worker = None
            yield outcome
    finally:
        if worker:
            worker.end()


def misfit(phase: GpuPhase, room: Room, left_s: float) -> str:
    """Why the phase is left out; empty where it fits."""
    if phase.gpus > room.gpus:
        return f"needs {phase.gpus} GPUs, and there is {room.gpus}"
    if phase.gigabytes > room.gigabytes:
        return f"needs about {phase.gigabytes:.0f} GB, and the GPU has {room.gigabytes:.0f} GB"
    if phase.seconds > left_s:
        return f"takes about {phase.seconds:.0f} s, and {max(0.0, left_s):.0f} s are left of the time"
    return ""


def find_room() -> Room:
    """The GPUs that torch can use.

    Raises:
        UsageError: there is none. The message says what was found and what to do.
    """
    import torch

    if devices.automatic() == "cuda":
        count = torch.cuda.device_count()
        bytes_of = [torch.cuda.get_device_properties(index).total_memory for index in range(count)]
        return Room(gpus=count, gigabytes=min(bytes_of) / 2**30)
    found, remedy = _absence()
    raise UsageError(
        f"bench gpu measures a CUDA GPU, and torch can use none: {found}. {remedy}. Without a GPU, python -m"
        " harness.bench measures the miniature"
    )


def _absence() -> tuple[str, str]:
    """Why torch can use no GPU, and what to do."""
    import torch

    value, has_driver = os.environ.get(devices.VARIABLE), devices.has_driver()
    if value is not None and not has_driver:
        hidden = f"{devices.VARIABLE}={value} hides the GPUs, or there is no NVIDIA driver"
        return hidden, "Unset it, or set it to the indices that nvidia-smi shows"
    if not has_driver:
        no_driver = "there is no NVIDIA driver (neither nvidia-smi nor /proc/driver/nvidia)"
        return no_driver, "Run the command on a machine with an NVIDIA GPU"
    if not torch.backends.cuda.is_built():
        no_cuda = f"torch {torch.__version__} is a build without CUDA, though there is an NVIDIA driver"
        return no_cuda, "Install a build with CUDA (https://pytorch.org/get-started)"
    reason = devices.unusable() or "the driver shows no GPU"
    return reason, "Install a driver and a torch that fit each other"
