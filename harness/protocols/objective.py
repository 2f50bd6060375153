"""The roles of `advantage=` and `ratio=`: how rewards become a gradient."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from harness.types import Grade


class Advantage(ABC):
    """The base class of advantages: what a sample gains over the others of its group."""

    uses_total: bool = True
    """False where only the components of a grade count, and not the expression of the total."""

    @abstractmethod
    def __call__(self, groups: Sequence[Sequence[Grade]]) -> list[list[float]]:
        """One advantage per sample.

        Args:
            groups: the grades of all scored samples of a step, group after group. A group may be empty.

        Returns:
            Lists of the same lengths. A group whose advantages are all 0 counts as one without spread.
        """


class Ratio(ABC):
    """The base class of losses per action, from the ratio of new to old probability and an advantage."""

    needs_inner_epochs: bool = False
    """True where the gradient equals that of `ratio=token` while the policy is the one that sampled."""

    @abstractmethod
    def __call__(
        self, new_BT: Tensor, old_BT: Tensor, advantage_BT: Tensor, regions: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """The loss of every action, and where clipping changes it.

        Args:
            new_BT: log-probs under the policy that is trained, with gradient.
            old_BT: those under the policy that sampled.
            advantage_BT: the advantage of every action.
            regions: boolean masks [B, T] that share no action: all actions, or those of the chain and those
                of the image where each stage has an advantage of its own.

        Returns:
            The loss [B, T], to be minimized, and a boolean mask [B, T].
        """
