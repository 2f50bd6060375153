"""Losses per action from the ratio of new to old probability, clipped.

`clip_low` and `clip_high` bound the ratio by 1 - clip_low and 1 + clip_high; None is no bound. Clipping
counts only on the side where it changes the loss: above for positive advantages, below for negative ones.

While the policy is the one that sampled, all ratios are 1, and all three have the same gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.protocols import Ratio
from harness.settings import number

if TYPE_CHECKING:
    from torch import Tensor


class Clipped(Ratio):
    """The settings of all ratios.

    Args:
        clip_low: how far below 1 the ratio may fall; None: no bound.
        clip_high: how far above 1 the ratio may rise; None: no bound.
    """

    def __init__(self, *, clip_low: float | None, clip_high: float | None) -> None:
        for name, bound in (("clip_low", clip_low), ("clip_high", clip_high)):
            if bound is not None:
                number(f"ratio.{name}", bound, above=0, hint=", or null for no bound")
        self.low = None if clip_low is None else 1 - clip_low
        self.high = None if clip_high is None else 1 + clip_high

    def clip(self, ratio_BT: Tensor) -> Tensor:
        """The ratio within its bounds."""
        if self.low is None and self.high is None:
            return ratio_BT
        return ratio_BT.clamp(self.low, self.high)

    def binds(self, ratio_BT: Tensor, advantage_BT: Tensor) -> Tensor:
        """Where the ratio is beyond the bound that acts on its advantage's sign: [B, T], boolean."""
        clipped_BT = self.clip(ratio_BT)
        above_BT = (ratio_BT > clipped_BT) & (advantage_BT > 0)
        return above_BT | ((ratio_BT < clipped_BT) & (advantage_BT < 0))


class TokenRatio(Clipped):
    """The ratio of each action (PPO, GRPO; DAPO, arXiv 2503.14476, with a higher upper bound).

    Args:
        clip_low: as in `Clipped`.
        clip_high: as in `Clipped`.
        dual_clip: for negative advantages, the loss is at most this number times -advantage (arXiv
            1912.09729 has 3); None: no bound.
    """

    def __init__(
        self, *, clip_low: float | None, clip_high: float | None, dual_clip: float | None = None
    ) -> None:
        super().__init__(clip_low=clip_low, clip_high=clip_high)
        if dual_clip is not None:
            number("ratio.dual_clip", dual_clip, above=1, hint=", or null for no bound")
        self.dual_clip = dual_clip

    def __call__(
        self, new_BT: Tensor, old_BT: Tensor, advantage_BT: Tensor, regions: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        ratio_BT = (new_BT - old_BT).exp()
        gain_BT = (ratio_BT * advantage_BT).minimum(self.clip(ratio_BT) * advantage_BT)
        if self.dual_clip is not None:
            bounded_BT = gain_BT.maximum(self.dual_clip * advantage_BT)
            gain_BT = bounded_BT.where(advantage_BT < 0, gain_BT)
        return -gain_BT, self.binds(ratio_BT, advantage_BT)


class SequenceRatio(Clipped):
    """One ratio for all actions of a region, the geometric mean of theirs (GSPO, arXiv 2507.18071).

    It has the gradient of GSPO's token form, so that actions of a region may differ in their advantages.
    """

    needs_inner_epochs = True

    def __call__(
        self, new_BT: Tensor, old_BT: Tensor, advantage_BT: Tensor, regions: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        mean_BT = new_BT.detach() * 0
        for region_BT in regions:
            mean_BT = mean_BT + sequence_log_ratio(new_BT, old_BT, region_BT).detach() * region_BT
        ratio_BT = (mean_BT + new_BT - new_BT.detach()).exp()
        gain_BT = (ratio_BT * advantage_BT).minimum(self.clip(ratio_BT) * advantage_BT)
        return -gain_BT, self.binds(ratio_BT, advantage_BT)


class Cispo(Clipped):
    """The log-prob, weighted by its clipped ratio without gradient (MiniMax-M1, arXiv 2506.13585).

    No action loses its gradient. The value of the loss means nothing.
    """

    needs_inner_epochs = True

    def __call__(
        self, new_BT: Tensor, old_BT: Tensor, advantage_BT: Tensor, regions: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        ratio_BT = (new_BT - old_BT).exp().detach()
        return -self.clip(ratio_BT) * advantage_BT * new_BT, self.binds(ratio_BT, advantage_BT)


def sequence_log_ratio(new_BT: Tensor, old_BT: Tensor, region_BT: Tensor) -> Tensor:
    """The mean of new - old over the region of each row: [B, 1], with gradient; 0 for an empty region."""
    count_B1 = region_BT.sum(1, keepdim=True).clamp(min=1)
    return ((new_BT - old_BT) * region_BT).sum(1, keepdim=True) / count_B1
