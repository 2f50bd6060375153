"""What a stage program works in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    Result = TypeVar("Result")


class Workspace(Protocol):
    """The first argument of a stage program, made by `harness.stages.store`.

    A program may be killed at any time and must resume from its folder. A request to stop (a signal) ends it
    at once too, unless it takes its steps from `steps`.
    """

    folder: Path
    """Folder of the results. It survives a kill, so checkpoints for resuming belong here too."""

    def progress(
        self, step: int, total: int, metrics: Mapping[str, float | int | None] | None = None
    ) -> None:
        """Reports that `step` of `total` is done; `metrics` become one line of `metrics.jsonl`.

        A line for a step that is already there replaces it and all later ones (a resumed run).
        """
        ...

    def steps(self, first: int, total: int) -> Iterator[int]:
        """Yields the steps from `first` to `total - 1`, for a program that keeps state between checkpoints.

        A request to stop no longer ends the program within a step, but after one in which `stopping` was
        true, and never after the last one if that reported its progress.
        """
        ...

    def stopping(self) -> bool:
        """Whether a stop was requested of any rank. Every rank must ask at the same place of a step.

        The program asks after `progress` and before it decides whether to save.
        """
        ...

    def interruptible(self, call: Callable[[], Result]) -> Result | None:
        """Within `steps`: returns what the call returns; None where a request to stop has ended it.

        For a call that may wait for long, as for a server that does not answer. What comes after it is to ask
        `stopping`, and to do nothing more if that is true.
        """
        ...
