"""What a stage program works in."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol


class Workspace(Protocol):
    """The first argument of a stage program, made by `harness.stages.store`."""

    folder: Path
    """Folder of the results. It survives a kill, so checkpoints for resuming belong here too."""

    def progress(
        self, step: int, total: int, metrics: Mapping[str, float | int | None] | None = None
    ) -> None:
        """Reports that `step` of `total` is done; `metrics` become one line of `metrics.jsonl`.

        A line for a step that is already there replaces it and all later ones (a resumed run).
        """
        ...
