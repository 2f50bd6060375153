"""Weights by guidance contrast against plain loops, with ties."""

from __future__ import annotations

import math

import pytest
import torch

from harness.trainers.token_weights import divergence, guidance_weights

CONTRAST = torch.tensor(
    [
        [0.5, -0.25, 0.5, 1.0, 0.0, -0.25, 2.0],  # two pairs of ties
        [3.0, 3.0, 3.0, 3.0, 0.0, 9.0, -9.0],  # all counted ones equal
        [8.0, 15.0, 0.1, 0.0, 0.2, 40.0, 0.3],  # beyond the largest divergence: ties
        [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0],
    ],
    dtype=torch.float64,
)
COUNTED = torch.tensor(
    [[1, 1, 1, 1, 1, 1, 0], [1, 1, 1, 1, 0, 0, 0], [1, 1, 1, 0, 1, 1, 1], [0, 0, 0, 0, 0, 0, 0]]
).bool()


def naive_divergence(contrast: float) -> float:
    bounded = min(max(contrast, -20.0), 20.0)
    return min(math.exp(bounded) - bounded - 1, 10.0)


def naive_weights(contrasts: list[float]) -> list[float]:
    values = [naive_divergence(contrast) for contrast in contrasts]
    powers = []
    for value in values:
        below = sum(other < value for other in values)
        ranks = [below + 1 + extra for extra in range(sum(other == value for other in values))]
        share = sum(ranks) / len(ranks) / len(values)
        powers.append(share ** (math.log(0.2) / math.log(0.6) - 1))
    return [power * len(powers) / sum(powers) for power in powers]


def test_weights_are_powers_of_mean_ranks_with_mean_1() -> None:
    weights = guidance_weights(CONTRAST, COUNTED)
    assert weights[~COUNTED].eq(1).all()
    for row, counted in enumerate(COUNTED.tolist()):
        places = [column for column, one in enumerate(counted) if one]
        expected = naive_weights([CONTRAST[row, column].item() for column in places])
        assert weights[row, places].tolist() == pytest.approx(expected, abs=1e-12)
        if places:
            assert weights[row, places].mean().item() == pytest.approx(1, abs=1e-12)
    assert weights[1].eq(1).all()
    assert weights[0, 0] == weights[0, 2] and weights[0, 1] == weights[0, 5]
    assert weights[2, 0] == weights[2, 1] == weights[2, 5]


def test_the_top_40_percent_carry_80_percent() -> None:
    contrast = torch.arange(1.0, 1001.0, dtype=torch.float64)[None] / 1000
    weights = guidance_weights(contrast, torch.ones_like(contrast).bool())
    assert weights[0, 600:].sum().item() / 1000 == pytest.approx(0.8, abs=1e-3)


def test_divergences_are_those_of_the_formula() -> None:
    expected = [naive_divergence(contrast) for contrast in CONTRAST.flatten().tolist()]
    assert divergence(CONTRAST).flatten().tolist() == pytest.approx(expected, abs=1e-12)


def test_weights_have_no_gradient() -> None:
    assert not guidance_weights(CONTRAST.clone().requires_grad_(), COUNTED).requires_grad
