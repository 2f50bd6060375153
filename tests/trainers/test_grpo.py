"""GRPO against plain Python: loss, its gradient, who takes part, and what is counted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from mini_world import GRPO, REWARDS
from PIL import Image
from torch import Tensor, nn

from harness.composition.components import make
from harness.protocols import Policy
from harness.reward.function import RewardFunction
from harness.trainers.advantage import standard_scores
from harness.trainers.grpo import Grpo
from harness.trainers.rollouts import UnscoredError
from harness.types import Chain, Prompt, Sample, Sampling, Score, TokenLogprobs, Tokens

WORDS, CODES = 5, 4
# (chain, image, forced end) of two groups of three; the chains are ragged
DRAWN = [
    ((1, 4), (0, 2), False),
    ((2, 2, 3, 4), (1, 1), False),
    ((3, 1, 4), (3, 0), True),
    ((4,), (2, 2), False),
    ((0, 1, 2, 4), (3, 3), True),
    ((1, 1, 4), (0, 1), False),
]
TOTALS: list[float | None] = [0.1, 0.9, 0.4, None, 0.7, 0.2]
PROMPTS = [Prompt(id=str(n), text=f"prompt {n}", category="color", facts={}) for n in range(2)]


class Table(nn.Module):
    """A model without context: one distribution over words and one over codes."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.words = nn.Parameter(torch.randn(WORDS, generator=generator, dtype=torch.float64))
        self.codes = nn.Parameter(torch.randn(CODES, generator=generator, dtype=torch.float64))


@dataclass
class FakePolicy(Policy):
    """Draws `DRAWN` repeatedly; records are off by `error`, guidance shifts images by `guided_shift`."""

    module: Table = field(default_factory=Table)
    error: float = 0.0
    guided_shift: float = 0.0
    asked: list[tuple[list[str], list[int]]] = field(default_factory=list)
    drawn: int = 0

    def rollout(self, prompts: Sequence[Prompt], seeds: Sequence[int], sampling: Sampling) -> list[Sample]:
        self.asked.append(([prompt.id for prompt in prompts], list(seeds)))
        drawn = self.drawn % len(DRAWN)
        self.drawn += len(prompts)
        rows = [
            Tokens(prompt=(0,), chain=chain, image=image, forced_end=forced)
            for chain, image, forced in DRAWN[drawn : drawn + len(prompts)]
        ]
        with torch.no_grad():
            scored = self.logprobs(rows, sampling)
        return [
            Sample(
                prompt=prompt,
                chain=Chain(text="", objects=(), bare_text="", faults=("odd",) * tokens.forced_end),
                image=Image.new("RGB", (1, 1)),
                tokens=tokens,
                logprobs=tuple((values[: len(tokens.chain + tokens.image)] + self.error).tolist()),
                seed=seed,
            )
            for prompt, seed, tokens, values in zip(prompts, seeds, rows, scored.values_BT, strict=True)
        ]

    def logprobs(
        self,
        tokens: Sequence[Tokens],
        sampling: Sampling,
        *,
        unconditional: Sequence[bool] = (),
        measures: Sequence[str] = (),
    ) -> TokenLogprobs:
        width = max(len(row.chain + row.image) for row in tokens)
        values, action, image = [], [], []
        for row in tokens:
            padding = width - len(row.chain + row.image)
            words = torch.log_softmax(self.module.words, 0)[list(row.chain)]
            codes = torch.log_softmax(self.module.codes, 0)[list(row.image)]
            codes = codes + self.guided_shift * (sampling.guidance > 1)
            acting = len(row.chain) - row.forced_end
            values.append(torch.cat((words, codes, codes.new_zeros(padding))))
            action.append(
                [True] * acting + [False] * row.forced_end + [True] * len(row.image) + [False] * padding
            )
            image.append([False] * len(row.chain) + [True] * len(row.image) + [False] * padding)
        values_BT = torch.stack(values)
        return TokenLogprobs(
            values_BT,
            torch.tensor(action),
            torch.tensor(image),
            {name: self._measure(name, values_BT, torch.tensor(image)) for name in measures},
        )

    def _measure(self, name: str, values_BT: Tensor, image_BT: Tensor) -> Tensor:
        """Entropies of 1 for words and 2 for codes; a contrast that is the log-prob."""
        return image_BT + torch.ones_like(values_BT) if name == "entropy" else values_BT.detach() * image_BT


@dataclass
class FakeLearner:
    """Plain gradient descent that remembers every gradient."""

    module: nn.Module
    rate: float = 4.0
    learning_rate: float = 0.5
    gradients: list[list[float]] = field(default_factory=list)

    def share(self, items: Sequence[Any]) -> list[Any]:
        return list(items)

    def total(self, value: Any) -> Any:
        return value

    def collect(self, items: Sequence[Any]) -> list[Any]:
        return list(items)

    def backward(self, loss: Tensor) -> None:
        loss.backward()

    @torch.no_grad()
    def step(self) -> float:
        gradient = torch.cat([parameter.grad.flatten() for parameter in self.module.parameters()])
        for parameter in self.module.parameters():
            parameter -= self.rate * parameter.grad
            parameter.grad = None
        self.gradients.append(gradient.tolist())
        return float(gradient.norm())


@dataclass
class Given:
    """A reward component with fixed totals."""

    totals: Sequence[float | None]
    name: str = "red"

    def __call__(self, samples: Sequence[Sample]) -> list[Score]:
        return [
            Score(value=None, unscored="left out") if total is None else Score(value=total)
            for total in self.totals
        ]


@dataclass
class World:
    run: Grpo
    policy: FakePolicy
    learner: FakeLearner
    start: list[float]


def world(
    totals: Sequence[float | None] = TOTALS,
    *,
    sampling: Sampling | None = None,
    policy: FakePolicy | None = None,
    **changes: Any,
) -> World:
    policy = policy or FakePolicy()
    frozen = FakePolicy(guided_shift=policy.guided_shift)
    with torch.no_grad():
        frozen.module.words += torch.linspace(-0.3, 0.3, WORDS, dtype=torch.float64)
        frozen.module.codes += torch.linspace(0.2, -0.2, CODES, dtype=torch.float64)
    learner = FakeLearner(policy.module)
    rewards = RewardFunction(total="red", components={"red": Given(totals)})
    settings = GRPO | {"prompts": 2} | changes
    run = Grpo(
        policy,
        lambda: nullcontext(frozen),
        rewards,
        rewards,
        learner,
        sampling or Sampling(),
        settings,
        3,
        lambda step, batch: PROMPTS,
    )
    return World(run, policy, learner, flat(policy.module))


def flat(module: nn.Module) -> list[float]:
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()]).tolist()


def plain_logprob(logits: Sequence[float], index: int) -> float:
    return logits[index] - math.log(sum(math.exp(value) for value in logits))


def plain_advantages(totals: Sequence[float | None]) -> list[float | None]:
    scores = iter(standard_scores([total for total in totals if total is not None]))
    return [None if total is None else next(scores) for total in totals]


def plain_loss(
    weights: list[float],
    old: list[float],
    frozen: list[float],
    totals: Sequence[float | None],
    settings: dict[str, Any],
) -> dict[str, float]:
    """The objective of the module's docstring, token by token."""
    advantages = [value for start in (0, 3) for value in plain_advantages(totals[start : start + 3])]
    gains, kls, outside = [], [], []
    for (chain, image, forced), advantage in zip(DRAWN, advantages, strict=True):
        if advantage is None:
            continue
        actions = [(0, WORDS, index) for index in (chain[:-1] if forced else chain)] + [
            (WORDS, WORDS + CODES, index) for index in image
        ]
        gain = kl = out = 0.0
        for first, last, index in actions:
            new, before, reference = (plain_logprob(one[first:last], index) for one in (weights, old, frozen))
            ratio = math.exp(new - before)
            clipped = min(max(ratio, 0.8), 1.2)
            gain += min(ratio * advantage, clipped * advantage)
            kl += math.exp(reference - new) - (reference - new) - 1
            out += clipped * advantage < ratio * advantage
        gains.append(gain / len(actions))
        kls.append(kl / len(actions))
        outside.append(out / len(actions))
    count = len(gains)
    kl = sum(kls) / count
    return {
        "loss": settings["kl_weight"] * kl - sum(gains) / count,
        "kl": kl,
        "clip_fraction": sum(outside) / count,
    }


def plain_gradient(weights: list[float], *others: Any) -> list[float]:
    """Central differences."""
    gradient = []
    for place in range(len(weights)):
        up, down = list(weights), list(weights)
        up[place] += 1e-5
        down[place] -= 1e-5
        gradient.append((plain_loss(up, *others)["loss"] - plain_loss(down, *others)["loss"]) / 2e-5)
    return gradient


def frozen_of(one: World) -> list[float]:
    with one.run._update._reference() as frozen:
        return flat(frozen.module)


def test_the_first_update_is_the_plain_one() -> None:
    one = world()
    metrics = one.run.step(PROMPTS, 0)
    expected = plain_loss(one.start, one.start, frozen_of(one), TOTALS, GRPO)
    assert {name: metrics[name] for name in expected} == pytest.approx(expected, abs=1e-9)
    assert expected["kl"] > 0.01 and expected["clip_fraction"] == 0
    (gradient,) = one.learner.gradients
    assert gradient == pytest.approx(
        plain_gradient(one.start, one.start, frozen_of(one), TOTALS, GRPO), abs=1e-7
    )
    assert any(gradient[:WORDS]) and any(gradient[WORDS:]), "chain and image both teach"
    assert metrics["grad_norm"] == pytest.approx(math.hypot(*gradient))
    assert metrics["lr"] == 0.5


def test_inner_epochs_keep_the_old_logprobs_of_before_the_first() -> None:
    one, step_by_step = world(inner_epochs=2), world()
    metrics = one.run.step(PROMPTS, 0)
    step_by_step.run.step(PROMPTS, 0)
    moved = flat(step_by_step.policy.module)
    frozen = frozen_of(one)
    first = plain_loss(one.start, one.start, frozen, TOTALS, GRPO)
    second = plain_loss(moved, one.start, frozen, TOTALS, GRPO)
    assert second["clip_fraction"] > 0, "the first update must move far enough for this to test clipping"
    assert {name: metrics[name] for name in first} == pytest.approx(
        {name: (first[name] + second[name]) / 2 for name in first}, abs=1e-6
    )
    assert len(one.learner.gradients) == 2
    assert one.learner.gradients[1] == pytest.approx(
        plain_gradient(moved, one.start, frozen, TOTALS, GRPO), abs=1e-7
    )


@pytest.mark.parametrize("micro_batch", [1, 2, 5, 6, 100])
def test_the_micro_batch_bounds_memory_and_changes_nothing_else(micro_batch: int) -> None:
    settings: dict[str, Any] = {
        "inner_epochs": 2,
        "sampling": Sampling(guidance=3.0),
        "image_logprobs": "conditional",
    }
    one, other = (
        world(policy=FakePolicy(guided_shift=0.25), micro_batch=size, **settings) for size in (4, micro_batch)
    )
    metrics, others = one.run.step(PROMPTS, 0), other.run.step(PROMPTS, 0)
    assert flat(other.policy.module) == pytest.approx(flat(one.policy.module), abs=1e-12)
    assert {**others, "seconds": 0} == pytest.approx({**metrics, "seconds": 0}, abs=1e-6)


def test_unscored_samples_teach_nothing_at_all() -> None:
    """Even their KL: with everything unscored nothing moves, though the frozen start is elsewhere."""
    one = world([None] * 6)
    metrics = one.run.step(PROMPTS, 0)
    assert flat(one.policy.module) == one.start
    assert metrics["unscored"] == 6 and metrics["zero_spread_groups"] == 2
    assert metrics["reward"] is None and metrics["component/red"] is None and metrics["loss"] == 0


def test_groups_without_spread_feel_only_the_kl() -> None:
    equal: list[float | None] = [0.5, 0.5, 0.5, 0.2, 0.2, 0.2]
    still = world(equal, kl_weight=0.0)
    assert still.run.step(PROMPTS, 0)["zero_spread_groups"] == 2
    assert flat(still.policy.module) == pytest.approx(still.start, abs=1e-12)
    pulled = world(equal)
    metrics = pulled.run.step(PROMPTS, 0)
    assert metrics["loss"] == pytest.approx(GRPO["kl_weight"] * metrics["kl"])
    assert flat(pulled.policy.module) != pytest.approx(pulled.start, abs=1e-6)


def test_what_happened_is_counted() -> None:
    metrics = world().run.step(PROMPTS, 0)
    assert metrics["reward"] == pytest.approx((0.1 + 0.9 + 0.4 + 0.7 + 0.2) / 5)
    assert metrics["component/red"] == metrics["reward"]
    assert (metrics["unscored"], metrics["truncated_chains"], metrics["faulty_chains"]) == (1, 2, 2)
    assert metrics["zero_spread_groups"] == 0


def test_every_sample_of_every_step_has_its_own_seed() -> None:
    one = world()
    one.run.step(PROMPTS, 0)
    one.run.step(PROMPTS, 1)
    (prompts, first), (_, second) = one.policy.asked
    assert prompts == ["0", "0", "0", "1", "1", "1"]
    assert len({*first, *second}) == 12
    again = world()
    again.run.step(PROMPTS, 1)
    assert again.policy.asked[0][1] == second, "a step's seeds need no state"


@pytest.mark.parametrize("size", [1, 2, 4, 6, 100])
def test_the_rollout_batch_cuts_the_rollouts_and_changes_nothing_else(size: int) -> None:
    whole, parts = world(), world(rollout_batch=size)
    metrics, others = whole.run.step(PROMPTS, 0), parts.run.step(PROMPTS, 0)
    assert {**others, "seconds": 0} == {**metrics, "seconds": 0}
    assert flat(parts.policy.module) == flat(whole.policy.module)
    assert [len(seeds) for _, seeds in parts.policy.asked] == [
        min(size, 6 - start) for start in range(0, 6, size)
    ]
    ((_, seeds),) = whole.policy.asked
    assert [seed for _, part in parts.policy.asked for seed in part] == seeds


@pytest.mark.parametrize(("missing", "tolerance"), [(2, 0.0), (3, 0.4), (6, 0.99)])
def test_too_many_unscored_samples_stop_the_run_before_it_trains_on_the_rest(
    missing: int, tolerance: float
) -> None:
    one = world([None] * missing + [0.1 * row for row in range(6 - missing)], unscored_tolerance=tolerance)
    with pytest.raises(UnscoredError) as error:
        one.run.step(PROMPTS, 4)
    for part in (
        f"{missing} of 6 samples of step 5",
        f"{missing} x red: left out",
        f"grpo.unscored_tolerance={tolerance}",
        "same command again",
    ):
        assert part in str(error.value)
    assert flat(one.policy.module) == one.start
    at_the_limit = world(
        [None] * missing + [0.1 * row for row in range(6 - missing)], unscored_tolerance=missing / 6
    )
    assert at_the_limit.run.step(PROMPTS, 4)["unscored"] == missing


@pytest.mark.parametrize(
    ("image_logprobs", "guidance"),
    [("guided", 1.0), ("guided", 3.0), ("conditional", 1.0)],
    ids=["plain", "guided", "no-guidance"],
)
@pytest.mark.parametrize("error", [0.5, math.nan])
def test_a_sampler_that_draws_from_another_distribution_is_an_error(
    image_logprobs: str, guidance: float, error: float
) -> None:
    sampling = Sampling(guidance=guidance)
    one = world(policy=FakePolicy(error=error), sampling=sampling, image_logprobs=image_logprobs)
    with pytest.raises(
        ValueError, match=r"differ from the sampler's by (0\.5|nan).*grpo\.gap_tolerance=0\.0001"
    ):
        one.run.step(PROMPTS, 0)
    assert flat(one.policy.module) == one.start, "nothing is trained on it"
    within = world(policy=FakePolicy(error=5e-5), sampling=sampling, image_logprobs=image_logprobs)
    assert within.run.step(PROMPTS, 0)["sampler_gap"] == pytest.approx(5e-5, abs=1e-9)


def test_conditional_logprobs_of_a_guided_sampler_only_log_the_gap() -> None:
    shifted = FakePolicy(guided_shift=0.25)
    one = world(policy=shifted, sampling=Sampling(guidance=3.0), image_logprobs="conditional")
    metrics = one.run.step(PROMPTS, 0)
    words, codes = (
        sum(len(chain) - forced for chain, _, forced in DRAWN),
        sum(len(image) for _, image, _ in DRAWN),
    )
    assert metrics["sampler_gap"] == pytest.approx(0.25 * codes / (words + codes), abs=1e-6)
    expected = plain_loss(one.start, one.start, frozen_of(one), TOTALS, GRPO)
    assert metrics["loss"] == pytest.approx(expected["loss"], abs=1e-9), (
        "old, new and reference are all conditional"
    )


def test_rewards_of_the_settings_are_made_with_plain_values() -> None:
    made = make(REWARDS)
    assert type(made) is dict and type(made["components"]) is dict
    assert RewardFunction(**made).components["low"].name == "low"
