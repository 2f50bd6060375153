"""Log-probs and measures in chunks are those in one piece, and no chunk is larger than it may be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Categorical, kl_divergence

from policies.janus import heads

HIDDEN, VOCABULARY = 6, 50


class Recorded(nn.Linear):
    """Keeps the number of logits of every call."""

    def __init__(self) -> None:
        super().__init__(HIDDEN, VOCABULARY)
        self.made: list[int] = []

    def forward(self, states: Tensor) -> Tensor:
        logits = super().forward(states)
        self.made.append(logits.numel())
        return logits


def run(
    copies: int, count: int, *, frozen: bool = False, measures: Sequence[str] = ()
) -> tuple[list[Tensor], list[int]]:
    """Values, gradients of states and head's weight (None if frozen), and the logits of each call."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    head = Recorded().requires_grad_(not frozen)
    states = torch.randn(copies, count, HIDDEN, requires_grad=True)
    ids = torch.randint(VOCABULARY, (count,))
    values, measured = heads.logprobs(
        head,
        VOCABULARY,
        states,
        ids,
        guidance=3.0 if copies == 2 else 1.0,
        temperature=0.7,
        measures=measures,
    )
    assert measured.shape == (len(measures), count)
    (values * torch.randn(count)).sum().backward()
    grads = [states.grad] if frozen else [states.grad, head.weight.grad, head.bias.grad]
    return [values.detach(), *grads], head.made


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("count", [1, 4, 9, 23])
@pytest.mark.parametrize("copies", [1, 2])
@pytest.mark.parametrize("budget", [1, 4 * VOCABULARY, 7 * VOCABULARY])
def test_chunks_equal_one_piece(
    monkeypatch: pytest.MonkeyPatch, copies: int, count: int, budget: int, frozen: bool
) -> None:
    whole, once = run(copies, count, frozen=frozen)
    assert once == [copies * count * VOCABULARY], "few positions are scored in one piece, and once"
    monkeypatch.setattr(heads, "LOGITS", budget)
    parts, made = run(copies, count, frozen=frozen)
    for one, other in zip(whole, parts, strict=True):
        assert (one - other).abs().max() <= 1e-6 * one.abs().max()
    assert max(made) <= max(budget, copies * VOCABULARY), "one position at least"
    if copies * count * VOCABULARY > budget and count > 1:
        assert sum(made) == 2 * copies * count * VOCABULARY, "made once forward and once backward"


def test_values_are_the_log_softmax_of_guided_logits() -> None:
    torch.manual_seed(0)
    head, states, ids = (
        nn.Linear(HIDDEN, VOCABULARY),
        torch.randn(2, 5, HIDDEN),
        torch.randint(VOCABULARY, (5,)),
    )
    conditional, unconditional = head(states)
    expected = torch.log_softmax((unconditional + 2.5 * (conditional - unconditional)) / 0.7, -1).gather(
        1, ids[:, None]
    )[:, 0]
    values, _ = heads.logprobs(head, VOCABULARY, states, ids, guidance=2.5, temperature=0.7)
    assert torch.allclose(values, expected, atol=1e-5)


@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.6])
@pytest.mark.parametrize("copies", [1, 2])
@pytest.mark.parametrize("budget", [2**25, 7 * VOCABULARY])
def test_measures_are_those_of_all_logits_in_float64(
    monkeypatch: pytest.MonkeyPatch, copies: int, temperature: float, budget: int
) -> None:
    torch.manual_seed(0)
    head, ids = nn.Linear(HIDDEN, VOCABULARY), torch.randint(VOCABULARY, (23,))
    states = 4 * torch.randn(copies, 23, HIDDEN)
    monkeypatch.setattr(heads, "LOGITS", budget)
    guidance = 2.5 if copies == 2 else 1.0
    _, measured = heads.logprobs(
        head, VOCABULARY, states, ids, guidance=guidance, temperature=temperature, measures=heads.MEASURES
    )
    assert measured.dtype == torch.float32 and not measured.requires_grad
    scaled = head(states).double() / (temperature or 1.0)
    conditional, unconditional = scaled[0], scaled[-1]
    trained = Categorical(logits=unconditional + guidance * (conditional - unconditional))
    uniform = Categorical(logits=torch.zeros_like(conditional))
    contrast = Categorical(logits=unconditional).log_prob(ids) - Categorical(logits=conditional).log_prob(ids)
    expected = torch.stack((trained.entropy(), kl_divergence(uniform, trained), contrast))
    torch.testing.assert_close(measured.double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("copies", [1, 2])
@pytest.mark.parametrize("budget", [2**25, 7 * VOCABULARY])
def test_measures_change_no_bit_and_run_no_head_again(
    monkeypatch: pytest.MonkeyPatch, copies: int, budget: int
) -> None:
    monkeypatch.setattr(heads, "LOGITS", budget)
    plain, made = run(copies, 23)
    measured, made_too = run(copies, 23, measures=heads.MEASURES)
    assert all(torch.equal(one, other) for one, other in zip(plain, measured, strict=True))
    assert made == made_too


def test_the_backward_pass_measures_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    parts: list[int] = []
    contrast = heads._contrast

    def counted(logits: Tensor, *rest: Any) -> Tensor:
        parts.append(len(logits) // 2)
        return contrast(logits, *rest)

    monkeypatch.setattr(heads, "_contrast", counted)
    monkeypatch.setattr(heads, "LOGITS", 14 * VOCABULARY)
    run(2, 23, measures=("contrast",))
    assert parts == [7, 7, 7, 2]


def test_no_positions_give_no_values() -> None:
    head, nothing = nn.Linear(HIDDEN, VOCABULARY), torch.zeros(0, dtype=torch.long)
    values, measured = heads.logprobs(
        head,
        VOCABULARY,
        torch.zeros(1, 0, HIDDEN),
        nothing,
        guidance=1.0,
        temperature=1.0,
        measures=("entropy",),
    )
    assert values.shape == (0,) and measured.shape == (1, 0)
