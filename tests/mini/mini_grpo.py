"""GRPO on a table: a policy without context, given rewards, and a learner that remembers its gradients."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from mini_world import GRPO
from PIL import Image
from torch import Tensor, nn

from harness.protocols import Policy
from harness.reward.function import RewardFunction
from harness.stages.program import SilentWorkspace
from harness.trainers.grpo import Grpo
from harness.trainers.step_rewards import StepRewards
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
    """A reward component with given values, in the order of asking; after the last one, the first."""

    totals: Sequence[float | None]
    name: str = "red"
    scope: str = "image"
    given: int = 0

    def __call__(self, samples: Sequence[Sample]) -> list[Score]:
        scores = []
        for _ in samples:
            total = self.totals[self.given % len(self.totals)]
            scores.append(Score(value=None, unscored="left out") if total is None else Score(value=total))
            self.given += 1
        return scores


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
    rewards: RewardFunction | None = None,
    **changes: Any,
) -> World:
    """A run of GRPO on `DRAWN`, with fixed totals or with a reward."""
    policy = policy or FakePolicy()
    frozen = FakePolicy(guided_shift=policy.guided_shift)
    with torch.no_grad():
        frozen.module.words += torch.linspace(-0.3, 0.3, WORDS, dtype=torch.float64)
        frozen.module.codes += torch.linspace(0.2, -0.2, CODES, dtype=torch.float64)
    learner = FakeLearner(policy.module)
    rewards = rewards or RewardFunction(total="red", components={"red": Given(totals)})
    settings = GRPO | {"prompts": 2} | changes
    sampling = sampling or Sampling()
    run = Grpo(
        policy,
        lambda: nullcontext(frozen),
        StepRewards(SilentWorkspace(Path()), rewards, policy, sampling, settings["micro_batch"]),
        rewards,
        learner,
        sampling,
        settings,
        3,
        lambda step, batch: PROMPTS,
    )
    return World(run, policy, learner, flat(policy.module))


def flat(module: nn.Module) -> list[float]:
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()]).tolist()


def plain_logprob(logits: Sequence[float], index: int) -> float:
    return logits[index] - math.log(sum(math.exp(value) for value in logits))


def frozen_of(one: World) -> list[float]:
    with one.run._update._reference() as frozen:
        return flat(frozen.module)
