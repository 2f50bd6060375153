"""Estimates of the KL divergence to the frozen start, per action (J. Schulman, 2020).

Their values are not what counts in a loss, but their gradients: in expectation that of k1 is 0, that of k2
is the gradient of KL(policy || start), that of k3 the gradient of KL(start || policy).
"""

from __future__ import annotations

from torch import Tensor


def k1(new_BT: Tensor, reference_BT: Tensor) -> Tensor:
    """The difference of log-probs, new - reference; its sum over a sample is the penalty of `kl=reward`."""
    return new_BT - reference_BT


def k2(new_BT: Tensor, reference_BT: Tensor) -> Tensor:
    """Half the squared difference of log-probs."""
    return (reference_BT - new_BT) ** 2 / 2


def k3(new_BT: Tensor, reference_BT: Tensor) -> Tensor:
    """exp(q) - q - 1 of q = reference - new; never negative (GRPO)."""
    gap_BT = reference_BT - new_BT
    return gap_BT.exp() - gap_BT - 1
