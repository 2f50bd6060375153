"""Seconds by part of the work, waiting for the GPU before and after each part."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class Clock:
    """Adds up the seconds of each part of the work."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def time(self, part: str, *, waits: bool = True) -> Iterator[None]:
        """Counts the seconds of the block for `part`; with `waits`, of the GPU work that it started too."""
        if waits:
            wait()
        began = time.perf_counter()
        try:
            yield
        finally:
            if waits:
                wait()
            self.seconds[part] += time.perf_counter() - began

    def timed(self, part: Callable[[], str], function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, with every call counted for the part that `part` names at the call."""

        def call(*arguments: Any, **named: Any) -> Any:
            with self.time(part()):
                return function(*arguments, **named)

        return call


def wait() -> None:
    """Waits until the GPU has done its work; returns at once without one."""
    import torch

    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def reset_peak() -> None:
    """Makes `peak_gb` start from here."""
    import torch

    from harness.stages.program import reset_peak_memory

    if torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()
    reset_peak_memory()


def peak_gb() -> float:
    """The highest memory since `reset_peak`, in GB (2**30 bytes): of the GPU, or else of this process."""
    import torch

    from harness.stages.program import peak_memory_mb

    if torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated() / 2**30
    return peak_memory_mb() / 2**10
