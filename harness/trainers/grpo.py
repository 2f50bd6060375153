"""Stage program `grpo`: group relative policy optimisation over chain and image tokens.

One step, top to bottom in `Grpo.step`: rollouts, rewards, advantages, clipped-ratio update with a KL
penalty (k3 estimator) to the frozen start. Differences from the textbook: the loss is a mean over each
sample's tokens, then over samples; a begin-of-image forced at the length limit is no action; unscored
samples and groups without spread carry no advantage and are counted.

`image_logprobs` names the distribution whose log-probs enter the ratio and the KL: `guided`, the one
sampled from, or `conditional`, which with guidance > 1 is another; `sampler_gap` says by how much.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness.components import make
from harness.protocols import Policy, Sampling, TokenLogprobs, Workspace
from harness.reward import RewardFunction
from harness.seeds import derive, of_batch
from harness.trainers import lora
from harness.trainers.advantage import group_advantages
from harness.trainers.learner import Learner
from harness.trainers.order import batch
from harness.types import Group, Prompt, Sample

Reference = Callable[[], AbstractContextManager[Policy]]  # a context in which the frozen start is used
Metrics = dict[str, float | int | None]


def train(work: Workspace, settings: dict[str, Any], inputs: dict[str, Path]) -> None:
    """Runs `grpo.steps` steps from the start checkpoint and writes `checkpoint/`."""
    grpo = settings["grpo"]
    policy, reference = _load(settings, inputs["start"] / "checkpoint")
    prompts = make(settings["benchmark"]).prompts("train")
    if not prompts:
        raise ValueError("the benchmark gave no training prompts: choose one that has them")
    optimisation = {name: grpo[name] for name in ("learning_rate", "steps", "warmup_steps", "weight_decay", "max_grad_norm")}
    learner = Learner(policy.module, **{**optimisation, "steps": grpo["steps"] * grpo["inner_epochs"]})
    rewards = RewardFunction(**make(settings["rewards"]))
    run = Grpo(policy, reference, rewards, learner, Sampling(**settings["rollout"]), grpo, settings["seed"])
    saved = work.folder / "training.pt"
    for step in range(learner.restore(saved), grpo["steps"]):
        metrics = run.step(batch(prompts, grpo["prompts"], step, settings["seed"]), step)
        work.progress(step + 1, grpo["steps"], metrics)
        if (step + 1) % grpo["checkpoint_every"] == 0:
            learner.save(saved, step + 1)
    if grpo["lora"]:
        lora.merge(policy.module)
    policy.save(work.folder / "checkpoint")
    saved.unlink(missing_ok=True)


def _load(settings: dict[str, Any], start: Path) -> tuple[Policy, Reference]:
    """The policy to train, and the frozen start: a second copy for full weights, for LoRA the policy without its adapters."""
    recipe, adapters = make(settings["policy"]), settings["grpo"]["lora"]
    policy = recipe.load(start, trainable=True)
    if not adapters:
        frozen: Policy = recipe.load(start)
        return policy, lambda: nullcontext(frozen)
    torch.manual_seed(derive(settings["seed"], "lora"))
    lora.add(policy.module, **adapters)
    return policy, partial(_without_adapters, policy)


@contextmanager
def _without_adapters(policy: Policy) -> Iterator[Policy]:
    with lora.switched_off(policy.module):
        yield policy


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Samples of a step as the update needs them; letters as in `TokenLogprobs`."""

    samples: list[Sample]
    advantages: list[float | None]


class Grpo:
    """One training run; `step` is the algorithm."""

    def __init__(
        self,
        policy: Policy,
        reference: Reference,
        rewards: RewardFunction,
        learner: Learner,
        sampling: Sampling,
        settings: dict[str, Any],
        seed: int,
    ) -> None:
        self._policy, self._reference, self._rewards, self._learner = policy, reference, rewards, learner
        self._sampling, self._settings, self._seed = sampling, settings, seed
        guided = settings["image_logprobs"] == "guided"
        self._scored = sampling if guided else replace(sampling, guidance=1.0)
        self._exact = guided or sampling.guidance <= 1

    def step(self, prompts: list[Prompt], step: int) -> Metrics:
        """Rollouts, rewards, advantages, update; returns the metrics of the step."""
        started = time.perf_counter()
        groups = self._groups(prompts, step)
        advantages = [group_advantages([reward.total.value for reward in group.rewards]) for group in groups]
        samples = [sample for group in groups for sample in group.samples]
        flat = [value for group in advantages for value in group.values]
        return {
            **_reward_metrics(groups),
            "zero_spread_groups": sum(group.zero_spread for group in advantages),
            "lr": self._learner.learning_rate,
            **self._update(samples, flat),
            "seconds": time.perf_counter() - started,
        }

    def _groups(self, prompts: list[Prompt], step: int) -> list[Group]:
        """N samples of every prompt, drawn in one batch and rewarded."""
        count = self._settings["samples"]
        repeated = [prompt for prompt in prompts for _ in range(count)]
        seeds = of_batch((derive(self._seed, "rollout", step, index) for index in range(len(repeated))), self._sampling.random)
        samples = self._policy.rollout(repeated, seeds, self._sampling)
        rewards = self._rewards(samples)
        return [
            Group(prompt=prompt, samples=tuple(samples[place : place + count]), rewards=tuple(rewards[place : place + count]))
            for prompt, place in zip(prompts, range(0, len(samples), count), strict=True)
        ]

    def _update(self, samples: list[Sample], advantages: list[float | None]) -> dict[str, float]:
        """`inner_epochs` optimizer steps; old log-probs are those before the first, under the scored distribution."""
        size = self._settings["micro_batch"]
        chunks = [
            Batch(samples=samples[start : start + size], advantages=advantages[start : start + size])
            for start in range(0, len(samples), size)
        ]
        with torch.no_grad(), self._reference() as frozen:
            reference = [self._logprobs(frozen, chunk).values_BT for chunk in chunks]
        scored = sum(value is not None for value in advantages)
        old: list[Tensor] = []
        gaps: list[Tensor] = []
        totals = {"loss": 0.0, "kl": 0.0, "clip_fraction": 0.0}
        for epoch in range(self._settings["inner_epochs"]):
            for index, chunk in enumerate(chunks):
                new = self._logprobs(self._policy, chunk)
                if epoch == 0:
                    old.append(new.values_BT.detach())
                    gaps.append(self._sampler_gap(chunk, new))
                loss, parts = self._loss(chunk, new, old[index], reference[index], scored)
                self._learner.backward(loss)
                for name, value in parts.items():
                    totals[name] += value / self._settings["inner_epochs"]
            totals["grad_norm"] = self._learner.step()
        return {**totals, "sampler_gap": torch.cat(gaps).mean().item()}

    def _logprobs(self, policy: Policy, chunk: Batch) -> TokenLogprobs:
        return policy.logprobs([sample.tokens for sample in chunk.samples], self._scored)

    def _loss(self, chunk: Batch, new: TokenLogprobs, old_BT: Tensor, reference_BT: Tensor, scored: int) -> tuple[Tensor, dict[str, float]]:
        """This chunk's part of the clipped objective plus KL; the mean is over all `scored` samples of the step.

        Unscored samples (no advantage) take no part in either.
        """
        values_BT = new.values_BT
        advantage_B1 = values_BT.new_tensor([value or 0.0 for value in chunk.advantages])[:, None]
        unscored_B1 = torch.tensor([value is None for value in chunk.advantages], device=values_BT.device)[:, None]
        action_BT = new.action_BT & ~unscored_B1
        per_sample_B = action_BT.sum(1).clamp(min=1)

        def mean(values: Tensor) -> Tensor:
            return ((values * action_BT).sum(1) / per_sample_B).sum() / max(scored, 1)

        clip = self._settings["clip"]
        ratio_BT = (values_BT - old_BT).exp()
        clipped_BT = ratio_BT.clamp(1 - clip, 1 + clip)
        gain_BT = torch.minimum(ratio_BT * advantage_B1, clipped_BT * advantage_B1)
        gap_BT = reference_BT - values_BT
        kl = mean(gap_BT.exp() - gap_BT - 1)
        loss = self._settings["kl_weight"] * kl - mean(gain_BT)
        outside = mean((ratio_BT != clipped_BT).float())
        return loss, {"loss": loss.item(), "kl": kl.item(), "clip_fraction": outside.item()}

    def _sampler_gap(self, chunk: Batch, replayed: TokenLogprobs) -> Tensor:
        """|replayed - recorded| log-prob of every action.

        Raises:
            ValueError: the replayed distribution is meant to be the sampled one and is not.
        """
        recorded_BT = torch.zeros_like(replayed.values_BT)
        for row, sample in zip(recorded_BT, chunk.samples, strict=True):
            row[: len(sample.logprobs)] = row.new_tensor(sample.logprobs)
        gaps = (replayed.values_BT.detach() - recorded_BT).abs()[replayed.action_BT]
        gap = gaps.mean().item()
        if self._exact and not gap <= self._settings["gap_tolerance"]:  # NaN fails this too
            raise ValueError(
                f"replayed log-probs differ from the sampler's by {gap:.2g} nats a token, allowed is"
                f" grpo.gap_tolerance={self._settings['gap_tolerance']}: rollout and training do not score the same distribution"
                " (low-precision weights alone explain little: find the cause before raising the tolerance)"
            )
        return gaps


def _reward_metrics(groups: list[Group]) -> Metrics:
    rewards = [reward for group in groups for reward in group.rewards]
    samples = [sample for group in groups for sample in group.samples]

    def mean(values: list[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return sum(known) / len(known) if known else None

    return {
        "reward": mean([reward.total.value for reward in rewards]),
        **{f"component/{name}": mean([reward.components[name].value for reward in rewards]) for name in rewards[0].components},
        "unscored": sum(reward.total.value is None for reward in rewards),
        "truncated_chains": sum(sample.tokens.forced_end for sample in samples),
        "faulty_chains": sum(bool(sample.plan.faults) for sample in samples),
    }
