"""Weights of image tokens by guidance contrast (GCPO, arXiv 2605.29198)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

LARGEST_CONTRAST = 20.0
LARGEST_DIVERGENCE = 10.0
TOP, MASS = 0.4, 0.8  # the top 40 percent of the tokens carry 80 percent of the weight
EXPONENT = math.log(1 - MASS) / math.log(1 - TOP) - 1


def divergence(contrast_BT: Tensor) -> Tensor:
    """k3 of the conditional against the unconditional row, at most `LARGEST_DIVERGENCE`.

    Args:
        contrast_BT: log-prob of an id under the unconditional row minus that under the conditional row.
    """
    bounded_BT = contrast_BT.clamp(-LARGEST_CONTRAST, LARGEST_CONTRAST)
    return (bounded_BT.exp() - bounded_BT - 1).clamp(max=LARGEST_DIVERGENCE)


def guidance_weights(contrast_BT: Tensor, counted_BT: Tensor) -> Tensor:
    """[B, T] weights with mean 1 over the counted ids of each row, and 1 elsewhere.

    A weight is a power of the rank of the id's divergence among the counted ids of its row. Equal
    divergences share the mean rank.
    """
    divergence_BT = divergence(contrast_BT.detach()).masked_fill(~counted_BT, math.inf)
    ordered_BT = divergence_BT.sort(dim=1).values
    below_BT = torch.searchsorted(ordered_BT, divergence_BT, right=False)
    up_to_BT = torch.searchsorted(ordered_BT, divergence_BT, right=True)
    rank_BT = (below_BT + 1 + up_to_BT).to(divergence_BT.dtype) / 2  # from 1; equal values share theirs
    count_B1 = counted_BT.sum(1, keepdim=True).clamp(min=1)
    power_BT = (rank_BT / count_B1) ** EXPONENT * counted_BT
    sum_B1 = power_BT.sum(1, keepdim=True)
    return torch.where(counted_BT, power_BT * count_B1 / sum_B1, torch.ones_like(power_BT))
