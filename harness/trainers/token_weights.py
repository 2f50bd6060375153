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
    divergence_BT = divergence(contrast_BT.detach())
    weights_BT = torch.ones_like(divergence_BT)
    for row, counted_T in enumerate(counted_BT):
        values_N = divergence_BT[row, counted_T]
        if len(values_N):
            powers_N = (_mean_ranks(values_N) / len(values_N)) ** EXPONENT
            weights_BT[row, counted_T] = powers_N * len(values_N) / powers_N.sum()
    return weights_BT


def _mean_ranks(values_N: Tensor) -> Tensor:
    """Ranks from 1; equal values share the mean of theirs."""
    ordered_N = values_N.sort().values
    below_N = torch.searchsorted(ordered_N, values_N, right=False)
    up_to_N = torch.searchsorted(ordered_N, values_N, right=True)
    return (below_N + 1 + up_to_N).to(values_N.dtype) / 2
