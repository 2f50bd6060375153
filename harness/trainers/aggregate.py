"""From terms per action to one number: the mean over a step, by samples, by actions or by stages.

Denominators are those of the whole step, whatever a micro-batch or a process holds of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

KINDS = ("sample", "token", "fixed", "stage")
STAGE_WEIGHT = 0.5  # of the chain and of the image


@dataclass(frozen=True, kw_only=True)
class Counts:
    """What a mean over a step divides by: samples, their actions, samples with actions of a stage."""

    samples: int
    actions: int
    with_chain: int
    with_image: int


def aggregate(
    kind: str, terms_BT: Tensor, action_BT: Tensor, image_BT: Tensor, counts: Counts, horizon: int
) -> Tensor:
    """The share of a micro-batch in the mean of a step.

    Args:
        kind: `sample`: a mean over each sample's actions, then over samples (GRPO). `token`: over all actions
            of the step (DAPO). `fixed`: sums over `horizon`, then over samples (Dr. GRPO). `stage`: half the
            `sample` mean of the chains' actions plus half that of the images' (Janus-Pro-R1).
        terms_BT: one term per action.
        action_BT: which actions count.
        image_BT: which of all ids are image ids.
        counts: of the whole step.
        horizon: the largest number of actions of a sample.
    """
    if kind == "sample":
        return _sample_mean(terms_BT, action_BT, counts.samples)
    if kind == "token":
        return (terms_BT * action_BT).sum() / max(counts.actions, 1)
    if kind == "fixed":
        return (terms_BT * action_BT).sum() / (max(counts.samples, 1) * horizon)
    chain = _sample_mean(terms_BT, action_BT & ~image_BT, counts.with_chain)
    image = _sample_mean(terms_BT, action_BT & image_BT, counts.with_image)
    return STAGE_WEIGHT * chain + STAGE_WEIGHT * image


def _sample_mean(terms_BT: Tensor, counted_BT: Tensor, samples: int) -> Tensor:
    counts_B = counted_BT.sum(1).clamp(min=1)
    return ((terms_BT * counted_BT).sum(1) / counts_B).sum() / max(samples, 1)
