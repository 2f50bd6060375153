"""The optimizer: schedule, clipping, decay, checkpoints."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import nn

from harness.trainers.learner import Learner

SETTINGS = {"learning_rate": 0.1, "steps": 10, "warmup_steps": 3, "weight_decay": 0.0, "max_grad_norm": 1e9}


def small(seed: int = 0) -> nn.Linear:
    torch.manual_seed(seed)
    return nn.Linear(3, 2)


def pull(learner: Learner, module: nn.Linear, by: float = 1.0) -> float:
    learner.backward(by * module(torch.ones(1, 3)).square().sum())
    return learner.step()


def test_the_rate_warms_up_and_falls_on_a_cosine() -> None:
    module = small()
    learner, rates = Learner(module, **SETTINGS), []
    for _ in range(10):
        rates.append(learner.learning_rate)
        pull(learner, module)
    warm = [0.1 / 3, 0.2 / 3, 0.1]
    cosine = [0.05 * (1 + math.cos(math.pi * step / 7)) for step in range(7)]
    assert rates == pytest.approx(warm + cosine)
    assert learner.learning_rate == pytest.approx(0.0)


def test_the_update_is_adamw_of_the_clipped_gradient() -> None:
    module, twin = small(), small()
    settings = SETTINGS | {"warmup_steps": 0, "weight_decay": 0.3, "max_grad_norm": 0.01}
    learner = Learner(module, **settings)
    optimizer = torch.optim.AdamW(twin.parameters(), lr=0.1, betas=(0.9, 0.95), weight_decay=0.3)
    for step in range(3):
        optimizer.param_groups[0]["lr"] = 0.05 * (1 + math.cos(math.pi * step / 10))
        norm = pull(learner, module, by=1 + step)
        ((1 + step) * twin(torch.ones(1, 3)).square().sum()).backward()
        expected = math.sqrt(sum(float(p.grad.square().sum()) for p in twin.parameters()))
        assert norm == pytest.approx(expected, rel=1e-5), "the norm is that before clipping"
        for parameter in twin.parameters():
            parameter.grad *= 0.01 / expected
        optimizer.step()
        optimizer.zero_grad()
    for ours, reference in zip(module.parameters(), twin.parameters(), strict=True):
        assert torch.allclose(ours, reference, rtol=1e-4, atol=1e-6)


def test_gradients_of_several_backward_calls_add_up_and_are_cleared_by_the_step() -> None:
    module = small()
    learner = Learner(module, **SETTINGS)
    x = torch.ones(1, 3)
    learner.backward(0.5 * module(x).sum())
    learner.backward(0.5 * module(x).sum())
    assert torch.allclose(module.weight.grad, torch.ones(2, 3))
    learner.step()
    assert module.weight.grad is None or not module.weight.grad.any()


def test_only_parameters_that_require_a_gradient_are_trained() -> None:
    module = small()
    module.bias.requires_grad_(False)
    before = module.bias.clone()
    learner = Learner(module, **SETTINGS | {"weight_decay": 0.5})
    pull(learner, module)
    assert torch.equal(module.bias, before)
    module.weight.requires_grad_(False)
    with pytest.raises(ValueError, match="trainable=True"):
        Learner(module, **SETTINGS)


def test_a_gradient_that_is_not_finite_is_an_error_and_moves_nothing() -> None:
    module = small()
    learner = Learner(module, **SETTINGS)
    before = module.weight.clone()
    learner.backward(module(torch.full((1, 3), math.nan)).sum())
    with pytest.raises(ValueError, match="diverged; lower learning_rate"):
        learner.step()
    assert torch.equal(module.weight, before)


def test_a_restored_run_resumes_bit_for_bit(tmp_path: Path) -> None:
    file = tmp_path / "training.pt"
    module = small()
    learner = Learner(module, **SETTINGS)
    for step in range(8):
        if step == 5:
            learner.save(file, step)
            torch.rand(1)
            noise = torch.get_rng_state()
        pull(learner, module)
    again = small(seed=9)
    resumed = Learner(again, **SETTINGS)
    assert resumed.restore(file) == 5
    torch.rand(1)
    assert torch.equal(torch.get_rng_state(), noise), "the random state is that of the save"
    for _ in range(5, 8):
        pull(resumed, again)
    assert torch.equal(again.weight, module.weight) and torch.equal(again.bias, module.bias)
    assert resumed.learning_rate == learner.learning_rate
    assert [path.name for path in tmp_path.iterdir()] == ["training.pt"]


def test_no_checkpoint_means_step_zero(tmp_path: Path) -> None:
    assert Learner(small(), **SETTINGS).restore(tmp_path / "training.pt") == 0


def test_an_unreadable_checkpoint_says_what_to_do(tmp_path: Path) -> None:
    file = tmp_path / "training.pt"
    learner = Learner(small(), **SETTINGS)
    learner.save(file, 3)
    whole = file.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"not a checkpoint"):
        file.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"cannot resume from .*training\.pt: delete it"):
            learner.restore(file)


def test_a_checkpoint_of_other_weights_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "training.pt"
    Learner(nn.Sequential(small()), **SETTINGS).save(file, 3)
    with pytest.raises(ValueError, match=r"delete it.*other weights"):
        Learner(small(), **SETTINGS).restore(file)
