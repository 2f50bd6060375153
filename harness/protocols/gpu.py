"""What `harness.bench gpu` runs: phases that check or measure something on one device."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A number that a phase measured."""

    name: str
    """What was measured, such as `image tokens`."""

    value: float
    """The number. One that is not finite passes no check and reaches no aim."""

    unit: str = ""
    """Its unit, such as tokens/s; empty for a count."""

    at_most: float | None = None
    """The limit of a check: the command exits with code 1 if the value is larger. None: no check."""

    aim: float | None = None
    """The value that should be reached. Missing it changes no exit code. None: no aim."""

    note: str = ""
    """What the number was measured with, for the table."""


@dataclass(frozen=True, kw_only=True)
class GpuPhase:
    """A part of `harness.bench gpu` that runs by itself."""

    name: str
    """Unique among all phases."""

    run: Callable[[], Iterable[Measured]]
    """Does the work. An exception becomes the row's message, and the other phases run."""

    seconds: float
    """Expected time on an H100, without the start of Python. Phases that do not fit the time are left out."""

    importance: int
    """Phases with a lower number run first."""

    gigabytes: float = 1.0
    """GPU memory that it takes, in GB (2**30 bytes); it is left out on a smaller GPU."""

    gpus: int = 1
    """GPUs that it needs; it is left out where there are fewer."""


@dataclass(frozen=True, kw_only=True)
class GpuBench:
    """What `harness.bench gpu` does with a policy."""

    phases: Sequence[GpuPhase]
    """The policy's own checks and measurements."""

    step_words: Callable[[], Sequence[str]] | None = None
    """Returns the command-line words of a GRPO run with a model of real size; the harness times one step of
    it. Makes the checkpoint that the words name, if it is missing. None: no step is timed."""

    step_gigabytes: float = 0.0
    """GPU memory of that step, in GB."""
