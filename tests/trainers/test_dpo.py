"""The loss and the update of DPO against plain Python and against TRL, and the order of its tasks."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from mini_world import dpo_settings
from torch import Tensor, nn

from harness.protocols import Policy
from harness.trainers.dpo import Task, Update, gains, pair_losses, schedule
from harness.trainers.pairs import Pair, StepPairs
from harness.types import Prompt, Sample, Sampling, TokenLogprobs, Tokens

VECTORS = json.loads(Path(__file__).with_name("dpo_vectors.json").read_text(encoding="utf-8"))
WORDS, CODES = 5, 4


def deviations(case: dict[str, Any]) -> dict[str, float]:
    """How far our loss, margins and gradients are from those of a vector."""
    scored, reference = {}, {}
    for side in ("best", "worst"):
        values_BT = torch.tensor(case[side]["new"], dtype=torch.float64, requires_grad=True)
        mask_BT = torch.tensor(case[side]["mask"]).bool()
        scored[side] = TokenLogprobs(values_BT, mask_BT, torch.zeros_like(mask_BT))
        reference[side] = torch.tensor(case[side]["reference"], dtype=torch.float64)
    best_B, worst_B = (gains(scored[side], reference[side]) for side in ("best", "worst"))
    loss = pair_losses(best_B, worst_B, case["beta"]).mean()
    loss.backward()
    margin_B = case["beta"] * (best_B - worst_B)
    expected = case["expected"]
    far = {
        "loss": abs(loss.item() - expected["loss"]),
        "margin": abs(margin_B.mean().item() - expected["margin"]),
        "accuracy": abs((margin_B > 0).double().mean().item() - expected["accuracy"]),
        "reward_chosen": abs(case["beta"] * best_B.mean().item() - expected["reward_chosen"]),
        "reward_rejected": abs(case["beta"] * worst_B.mean().item() - expected["reward_rejected"]),
    }
    for side in ("best", "worst"):
        gradient_BT = scored[side].values_BT.grad
        assert gradient_BT is not None
        wanted_BT = torch.tensor(expected[f"gradient_{side}"], dtype=torch.float64)
        far[f"gradient_{side}"] = (gradient_BT - wanted_BT).abs().max().item()
    return far


@pytest.mark.parametrize("case", VECTORS["cases"], ids=range(len(VECTORS["cases"])))
def test_loss_margin_and_gradient_equal_those_of_trl(case: dict[str, Any]) -> None:
    assert max(deviations(case).values()) < 1e-6


@pytest.mark.parametrize("name", ["loss", "margin", "accuracy", "gradient_best", "gradient_worst"])
def test_a_falsified_vector_is_noticed(name: str) -> None:
    false = copy.deepcopy(VECTORS["cases"][1])
    if name.startswith("gradient"):
        false["expected"][name][0][0] += 1e-3
    else:
        false["expected"][name] += 1e-3
    far = deviations(false)
    assert far[name] > 1e-4 and sum(value > 1e-6 for value in far.values()) == 1


class Table(nn.Module):
    """A model without context: one distribution over words and one over codes."""

    def __init__(self, shift: float = 0.0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        drawn = torch.randn(WORDS + CODES, generator=generator, dtype=torch.float64)
        drawn += torch.linspace(-shift, shift, WORDS + CODES, dtype=torch.float64)
        self.logits = nn.Parameter(drawn)


@dataclass
class FakePolicy(Policy):
    """Scores ids with its table; guidance doubles the logits of codes."""

    module: Table = field(default_factory=Table)

    def rollout(self, prompts: Sequence[Prompt], seeds: Sequence[int], sampling: Sampling) -> list[Sample]:
        raise NotImplementedError

    def logprobs(self, tokens: Sequence[Tokens], sampling: Sampling, **_: Any) -> TokenLogprobs:
        width = max(len(row.chain + row.image) for row in tokens)
        strength = 2.0 if sampling.guidance > 1 else 1.0
        words = torch.log_softmax(self.module.logits[:WORDS], 0)
        codes = torch.log_softmax(strength * self.module.logits[WORDS:], 0)
        values, action, image = [], [], []
        for row in tokens:
            chain, drawn = len(row.chain), len(row.image)
            padding = width - chain - drawn
            values.append(
                torch.cat((words[list(row.chain)], codes[list(row.image)], codes.new_ones(padding)))
            )
            acting = chain - row.forced_end
            action.append([True] * acting + [False] * row.forced_end + [True] * drawn + [False] * padding)
            image.append([False] * chain + [True] * drawn + [False] * padding)
        return TokenLogprobs(torch.stack(values), torch.tensor(action), torch.tensor(image))


@dataclass
class FakeLearner:
    """Keeps the gradient instead of taking a step. It is rank `rank` of `processes`."""

    module: Table
    learning_rate: float = 0.5
    rank: int = 0
    processes: int = 1
    gradient: list[float] = field(default_factory=list)

    def share(self, items: Sequence[Any]) -> list[Any]:
        size = len(items) // self.processes
        return list(items)[self.rank * size : (self.rank + 1) * size]

    def total(self, value: Any) -> Any:
        return value

    def backward(self, loss: Tensor) -> None:
        loss.backward()

    def step(self) -> float:
        gradient = self.module.logits.grad
        self.gradient = [0.0] * (WORDS + CODES) if gradient is None else gradient.tolist()
        return math.hypot(*self.gradient)


def ids(chain: tuple[int, ...], image: tuple[int, ...], forced: bool = False) -> Tokens:
    return Tokens(prompt=(0,), chain=chain, image=image, forced_end=forced)


PAIRS = StepPairs(
    step=0,
    pairs=(
        Pair(
            position=0,
            best=ids((1, 4), (0, 2)),
            worst=ids((2, 2, 3, 4), (1, 1), forced=True),
            best_total=0.9,
            worst_total=0.1,
        ),
        Pair(
            position=2, best=ids((3, 1, 4), (3, 0)), worst=ids((4,), (2, 2)), best_total=0.6, worst_total=0.5
        ),
        Pair(
            position=3,
            best=ids((0, 1, 2, 4), (3, 3), forced=True),
            worst=ids((1, 1, 4), (0, 1)),
            best_total=0.3,
            worst_total=0.0,
        ),
    ),
    groups_without_pair=1,
    unscored=2,
)


def update(
    drawn: StepPairs = PAIRS,
    sampling: Sampling | None = None,
    rank: int = 0,
    processes: int = 1,
    **changes: Any,
) -> tuple[dict[str, Any], FakeLearner]:
    policy, frozen = FakePolicy(), FakePolicy(Table(shift=0.4))
    learner = FakeLearner(policy.module, rank=rank, processes=processes)
    settings = dpo_settings(**changes)["dpo"]
    run = Update(policy, lambda: nullcontext(frozen), learner, sampling or Sampling(), settings)  # type: ignore[arg-type]
    return run(drawn), learner


def plain_terms(logits: Sequence[float], beta: float, strength: float = 1.0) -> dict[str, float]:
    """The objective of the module's docstring, id by id."""

    def logprob(one: Sequence[float], row: Tokens) -> float:
        total = 0.0
        words, codes = one[:WORDS], [strength * value for value in one[WORDS:]]
        for part, chosen in (
            (words, row.chain[: len(row.chain) - row.forced_end]),
            (codes, row.image),
        ):
            norm = math.log(sum(math.exp(value) for value in part))
            total += sum(part[index] - norm for index in chosen)
        return total

    start = Table(shift=0.4).logits.tolist()
    margins = []
    for pair in PAIRS.pairs:
        best, worst = (logprob(logits, row) - logprob(start, row) for row in (pair.best, pair.worst))
        margins.append(beta * (best - worst))
    return {
        "loss": sum(math.log(1 + math.exp(-margin)) for margin in margins) / 3,
        "margin": sum(margins) / 3,
        "accuracy": sum(margin > 0 for margin in margins) / 3,
    }


@pytest.mark.parametrize(
    ("image_logprobs", "guidance", "strength"),
    [("guided", 1.0, 1.0), ("guided", 3.0, 2.0), ("conditional", 3.0, 1.0)],
    ids=["plain", "guided", "conditional"],
)
@pytest.mark.parametrize("beta", [0.1, 2.0])
def test_the_update_is_the_plain_one(
    image_logprobs: str, guidance: float, strength: float, beta: float
) -> None:
    metrics, learner = update(sampling=Sampling(guidance=guidance), image_logprobs=image_logprobs, beta=beta)
    logits = Table().logits.tolist()
    expected = plain_terms(logits, beta, strength)
    assert {name: metrics[name] for name in expected} == pytest.approx(expected, abs=1e-9)
    gradient = []
    for place in range(WORDS + CODES):
        up, down = list(logits), list(logits)
        up[place] += 1e-5
        down[place] -= 1e-5
        losses = [plain_terms(one, beta, strength)["loss"] for one in (up, down)]
        gradient.append((losses[0] - losses[1]) / 2e-5)
    assert learner.gradient == pytest.approx(gradient, abs=1e-8)
    assert any(gradient[:WORDS]) and any(gradient[WORDS:]), "chain and image both teach"


def test_what_happened_is_counted() -> None:
    metrics, learner = update()
    assert metrics["grad_norm"] == pytest.approx(math.hypot(*learner.gradient))
    assert (metrics["pairs"], metrics["groups_without_pair"], metrics["unscored"]) == (3, 1, 2)
    assert metrics["reward_best"] == pytest.approx((0.9 + 0.6 + 0.3) / 3)
    assert metrics["reward_worst"] == pytest.approx((0.1 + 0.5 + 0.0) / 3)
    assert metrics["lr"] == 0.5


@pytest.mark.parametrize("micro_batch", [1, 2, 3, 100])
def test_the_micro_batch_bounds_memory_and_changes_nothing_else(micro_batch: int) -> None:
    (whole, one), (parts, other) = update(micro_batch=3), update(micro_batch=micro_batch)
    assert {**parts, "seconds": 0} == pytest.approx({**whole, "seconds": 0}, abs=1e-12)
    assert other.gradient == pytest.approx(one.gradient, abs=1e-12)


def test_each_process_trains_on_the_pairs_of_its_groups() -> None:
    whole, one = update()
    ranks = [update(rank=rank, processes=2) for rank in (0, 1)]
    for name in ("loss", "margin", "accuracy"):
        assert sum(metrics[name] for metrics, _ in ranks) == pytest.approx(whole[name])
    summed = [sum(pair) for pair in zip(*(learner.gradient for _, learner in ranks), strict=True)]
    assert summed == pytest.approx(one.gradient)


def test_a_step_without_pairs_has_no_gradient_and_no_means() -> None:
    metrics, learner = update(StepPairs(step=0, pairs=(), groups_without_pair=4, unscored=0))
    assert not any(learner.gradient)
    for name in ("loss", "accuracy", "margin", "reward_best", "reward_worst"):
        assert metrics[name] is None


def test_a_round_is_drawn_whole_before_a_step_trains_on_it() -> None:
    order = [f"{task} {step}" for task, step in schedule(5, 2)]
    assert order == [
        *("draw 0", "draw 1", "train 0", "train 1"),
        *("draw 2", "draw 3", "train 2", "train 3"),
        *("draw 4", "train 4"),
    ]
    assert schedule(2, 2)[-1] == Task("train", 1)
