"""Log-probs in chunks are those in one piece, values and gradients, and no chunk is larger than it may be."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

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
    copies: int, count: int, *, guidance: float = 3.0, frozen: bool = False
) -> tuple[list[Tensor], list[int]]:
    """Values, gradient of the states and of the head's weight where it is not frozen; and the
    logits of every call.
    """
    torch.set_num_threads(1)
    torch.manual_seed(0)
    head = Recorded().requires_grad_(not frozen)
    states = torch.randn(copies, count, HIDDEN, requires_grad=True)
    ids = torch.randint(VOCABULARY, (count,))
    values = heads.logprobs(
        head, VOCABULARY, states, ids, guidance=guidance if copies == 2 else 1.0, temperature=0.7
    )
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
    assert torch.allclose(
        heads.logprobs(head, VOCABULARY, states, ids, guidance=2.5, temperature=0.7), expected, atol=1e-5
    )


def test_no_positions_give_no_values() -> None:
    head, nothing = nn.Linear(HIDDEN, VOCABULARY), torch.zeros(0, dtype=torch.long)
    none = heads.logprobs(head, VOCABULARY, torch.zeros(1, 0, HIDDEN), nothing, guidance=1.0, temperature=1.0)
    assert none.shape == (0,)
