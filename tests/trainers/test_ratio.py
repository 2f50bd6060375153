"""Losses per action against plain loops."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from harness.trainers.ratio import Cispo, SequenceRatio, TokenRatio, sequence_log_ratio

OLD = torch.tensor([[-1.0, -2.0, -0.5, -3.0, -1.5], [-0.7, -1.1, -2.2, -0.3, -0.9]], dtype=torch.float64)
STEPS = torch.tensor([[0.1, 0.5, -0.4, 0.9, -1.2], [0.02, -0.6, 0.7, 1.5, -0.1]], dtype=torch.float64)
ADVANTAGES = torch.tensor([[0.5, 0.5, -1.5, -1.5, -1.5], [-0.8, -0.8, 1.2, 1.2, 0.0]], dtype=torch.float64)
CHAIN = torch.tensor([[1, 1, 0, 0, 0], [0, 0, 0, 0, 0]]).bool()
IMAGE = torch.tensor([[0, 0, 1, 1, 0], [0, 1, 1, 1, 0]]).bool()
PLACES = [(row, column) for row in range(2) for column in range(5)]


def new() -> Tensor:
    return (OLD + STEPS).requires_grad_()


def within(ratio: float, low: float, high: float) -> float:
    return min(max(ratio, 1 - low), 1 + high)


def test_the_ratio_of_an_action_is_clipped_where_that_lowers_the_gain() -> None:
    loss, clipped = TokenRatio(clip_low=0.2, clip_high=0.28)(new(), OLD, ADVANTAGES, [CHAIN, IMAGE])
    for place in PLACES:
        ratio, advantage = math.exp(STEPS[place]), ADVANTAGES[place].item()
        gain = min(ratio * advantage, within(ratio, 0.2, 0.28) * advantage)
        assert loss[place].item() == pytest.approx(-gain, abs=1e-12)
        assert clipped[place].item() == (not math.isclose(gain, ratio * advantage, abs_tol=1e-12))


@pytest.mark.parametrize(("low", "high"), [(None, 0.28), (0.2, None), (None, None)])
def test_a_bound_of_none_never_clips(low: float | None, high: float | None) -> None:
    loss, clipped = TokenRatio(clip_low=low, clip_high=high)(new(), OLD, ADVANTAGES, [CHAIN, IMAGE])
    for place in PLACES:
        ratio, advantage = math.exp(STEPS[place]), ADVANTAGES[place].item()
        bounded = max(ratio, -math.inf if low is None else 1 - low)
        bounded = min(bounded, math.inf if high is None else 1 + high)
        assert loss[place].item() == pytest.approx(-min(ratio * advantage, bounded * advantage), abs=1e-12)
    assert clipped.any() == (low is not None or high is not None)


def test_dual_clip_bounds_the_loss_of_negative_advantages_alone() -> None:
    loss, _ = TokenRatio(clip_low=0.2, clip_high=0.2, dual_clip=2.0)(new(), OLD, ADVANTAGES, [CHAIN, IMAGE])
    bounded = 0
    for place in PLACES:
        ratio, advantage = math.exp(STEPS[place]), ADVANTAGES[place].item()
        plain = -min(ratio * advantage, within(ratio, 0.2, 0.2) * advantage)
        expected = min(plain, -2.0 * advantage) if advantage < 0 else plain
        bounded += expected < plain
        assert loss[place].item() == pytest.approx(expected, abs=1e-12)
    assert bounded


def test_every_region_has_one_ratio_and_an_action_outside_them_has_ratio_1() -> None:
    values = new()
    loss, clipped = SequenceRatio(clip_low=0.1, clip_high=0.15)(values, OLD, ADVANTAGES, [CHAIN, IMAGE])
    (gradient,) = torch.autograd.grad(loss.sum(), values)
    for row, column in PLACES:
        mean = 0.0
        for region in (CHAIN, IMAGE):
            if region[row, column]:
                steps = [STEPS[row, other].item() for other in range(5) if region[row, other]]
                mean = sum(steps) / len(steps)
        ratio, advantage = math.exp(mean), ADVANTAGES[row, column].item()
        gain = min(ratio * advantage, within(ratio, 0.1, 0.15) * advantage)
        binds = not math.isclose(gain, ratio * advantage, abs_tol=1e-12)
        assert loss[row, column].item() == pytest.approx(-gain, abs=1e-12)
        assert clipped[row, column].item() == binds
        assert gradient[row, column].item() == pytest.approx(0.0 if binds else -gain, abs=1e-12)
    assert clipped.any() and not clipped.all()


def test_the_log_ratio_of_a_sequence_is_the_mean_over_its_region() -> None:
    values = new()
    found = sequence_log_ratio(values, OLD, CHAIN)
    assert found.tolist() == [[pytest.approx(0.3, abs=1e-12)], [0.0]]
    (gradient,) = torch.autograd.grad(found.sum(), values)
    assert gradient.tolist() == [[0.5, 0.5, 0.0, 0.0, 0.0], [0.0] * 5]


def test_cispo_weighs_log_probs_by_clipped_ratios_without_gradient() -> None:
    values = new()
    loss, _ = Cispo(clip_low=None, clip_high=0.3)(values, OLD, ADVANTAGES, [CHAIN, IMAGE])
    (gradient,) = torch.autograd.grad(loss.sum(), values)
    for place in PLACES:
        weight = -min(math.exp(STEPS[place]), 1.3) * ADVANTAGES[place].item()
        assert gradient[place].item() == pytest.approx(weight, abs=1e-12)
        assert loss[place].item() == pytest.approx(weight * values[place].item(), abs=1e-12)


def test_all_ratios_have_one_gradient_while_the_policy_is_the_one_that_sampled() -> None:
    for ratio in (
        TokenRatio(clip_low=0.2, clip_high=0.28, dual_clip=3.0),
        SequenceRatio(clip_low=3e-4, clip_high=4e-4),
        Cispo(clip_low=None, clip_high=4.0),
    ):
        values = OLD.clone().requires_grad_()
        loss, clipped = ratio(values, OLD, ADVANTAGES, [CHAIN, IMAGE])
        (gradient,) = torch.autograd.grad(loss.sum(), values)
        torch.testing.assert_close(gradient, -ADVANTAGES, rtol=0, atol=1e-12)
        assert not clipped.any()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"clip_low": 0, "clip_high": 0.2}, "ratio.clip_low=0"),
        ({"clip_low": 0.2, "clip_high": "wide"}, "ratio.clip_high='wide'"),
        ({"clip_low": 0.2, "clip_high": 0.2, "dual_clip": 1}, "ratio.dual_clip=1"),
    ],
)
def test_bounds_that_mean_nothing_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TokenRatio(**settings)  # type: ignore[arg-type]
