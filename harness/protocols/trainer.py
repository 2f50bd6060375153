"""The role of `trainers=`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.types import Config, Stage


class Trainer(ABC):
    """The base class of trainers: the stages between a starting checkpoint and a trained one."""

    trains: bool = True
    """False where the trainer never declares a stage."""

    @abstractmethod
    def stages(self, config: Config, start: Stage) -> Sequence[Stage]:
        """The stages in order; the last one's folder holds the checkpoint that is evaluated."""
