"""Estimates of the KL divergence: their values by hand, their expected gradients by enumeration."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from harness.trainers.kl import k1, k2, k3

LOGITS = torch.tensor([0.3, -1.2, 0.8, 0.1], dtype=torch.float64)
REFERENCE = torch.tensor([-0.4, 0.5, 0.2, -0.9], dtype=torch.float64).log_softmax(0)


def expected_gradient(estimate: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """The gradient in the loss, averaged over all ids that the policy may draw."""
    logits = LOGITS.clone().requires_grad_()
    log_probs = logits.log_softmax(0)
    terms = log_probs.detach().exp() * estimate(log_probs, REFERENCE)
    return torch.autograd.grad(terms.sum(), logits)[0]


def gradient_of_divergence(*, forward: bool) -> Tensor:
    """Of KL(reference || policy) if forward, else of KL(policy || reference)."""
    logits = LOGITS.clone().requires_grad_()
    log_probs = logits.log_softmax(0)
    one, other = (REFERENCE, log_probs) if forward else (log_probs, REFERENCE)
    return torch.autograd.grad((one.exp() * (one - other)).sum(), logits)[0]


def test_values_are_those_of_the_formulas() -> None:
    new, reference = torch.tensor([[-1.0, -2.0]]), torch.tensor([[-1.5, -0.5]])
    assert k1(new, reference).tolist() == [[0.5, -1.5]]
    assert k2(new, reference).tolist() == [[0.125, 1.125]]
    expected = [math.exp(-0.5) + 0.5 - 1, math.exp(1.5) - 1.5 - 1]
    assert k3(new, reference).tolist() == [pytest.approx(expected, abs=1e-6)]


def test_k1_in_a_loss_does_nothing() -> None:
    torch.testing.assert_close(expected_gradient(k1), torch.zeros(4, dtype=torch.float64), rtol=0, atol=1e-12)


def test_k2_has_the_gradient_of_the_divergence_from_the_start() -> None:
    wanted = gradient_of_divergence(forward=False)
    torch.testing.assert_close(expected_gradient(k2), wanted, rtol=0, atol=1e-12)
    assert wanted.abs().max() > 0.1


def test_k3_has_the_gradient_of_the_divergence_of_the_start_from_the_policy() -> None:
    wanted = gradient_of_divergence(forward=True)
    torch.testing.assert_close(expected_gradient(k3), wanted, rtol=0, atol=1e-12)
    assert wanted.abs().max() > 0.1
