"""Stage program `grpo`: group relative policy optimisation over chain and image tokens.

One step, top to bottom in `Grpo.step`: rollouts, rewards, advantages, clipped-ratio update with a KL
penalty (k3 estimator) to the frozen start. Differences from the textbook: the loss is a mean over each
sample's tokens, then over samples; a begin-of-image forced at the length limit is no action; unscored
samples and groups without spread carry no advantage and are counted.

Processes that train together take whole groups each; seeds belong to a sample's place in the step, and
every mean is one over the whole step, so that two processes do what one does.

`image_logprobs` names the distribution whose log-probs enter the ratio and the KL: `guided`, the one
sampled from, or `conditional`, which with guidance > 1 is another; `sampler_gap` says by how much.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from harness.composition.components import make
from harness.reward.function import RewardFunction
from harness.seeds import derive
from harness.trainers import lora
from harness.trainers.advantage import group_advantages
from harness.trainers.learner import Learner
from harness.trainers.order import batch
from harness.types import Group, Prompt, Reward, Sample, Sampling, TokenLogprobs

if TYPE_CHECKING:
    from harness.protocols import Policy, Workspace

Reference = Callable[[], "AbstractContextManager[Policy]"]  # a context in which the frozen start is used
Metrics = dict[str, float | int | None]
Outcome = dict[str, Any]  # see `_outcome`
NAMED_REASONS = 5  # of unscored samples, the most frequent first


def train(work: Workspace, settings: dict[str, Any], inputs: dict[str, Path]) -> None:
    """Runs `grpo.steps` steps from the start checkpoint and writes `checkpoint/`."""
    grpo = settings["grpo"]
    policy, reference = _load(settings, inputs["start"] / "checkpoint")
    prompts = make(settings["benchmark"]).prompts("train")
    if not prompts:
        raise ValueError("the benchmark gave no training prompts: choose one that has them")
    optimisation = {
        name: grpo[name]
        for name in ("learning_rate", "steps", "warmup_steps", "weight_decay", "max_grad_norm")
    }
    learner = Learner(policy.module, **{**optimisation, "steps": grpo["steps"] * grpo["inner_epochs"]})
    rewards = RewardFunction(**make(settings["rewards"]))
    run = Grpo(policy, reference, rewards, learner, Sampling(**settings["rollout"]), grpo, settings["seed"])
    saved = work.folder / "training.pt"
    for step in range(learner.restore(saved), grpo["steps"]):
        try:
            metrics = run.step(batch(prompts, grpo["prompts"], step, settings["seed"]), step)
        except UnscoredError:
            learner.save(saved, step)
            raise
        work.progress(step + 1, grpo["steps"], metrics)
        if (step + 1) % grpo["checkpoint_every"] == 0:
            learner.save(saved, step + 1)
    learner.finish()
    if learner.rank == 0:
        _finish(policy, work.folder / "checkpoint", adapted=bool(grpo["lora"]))
        saved.unlink(missing_ok=True)


class UnscoredError(ValueError):
    """Too many samples of a step have no reward to learn from: the experts that judge are at fault, not the policy."""


def _finish(policy: Policy, checkpoint: Path, *, adapted: bool) -> None:
    """Writes the trained policy; adapters apart, too, before they are folded into the weights."""
    if adapted:
        lora.write(policy.module, checkpoint / "lora")
        lora.merge(policy.module)
    policy.save(checkpoint)


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
        """Rollouts, rewards, advantages, update; returns the metrics of the step.

        Args:
            prompts: of the whole step; this process works on its share.
            step: its number, from 0.

        Raises:
            UnscoredError: more samples than `unscored_tolerance` allows have no reward; nothing was trained.
        """
        started = time.perf_counter()
        groups = self._groups(self._learner.share(list(enumerate(prompts))), step)
        advantages = [group_advantages([reward.total.value for reward in group.rewards]) for group in groups]
        outcomes = self._learner.collect(
            [_outcome(*one) for group in groups for one in zip(group.samples, group.rewards, strict=True)]
        )
        self._check_scored(outcomes, step)
        samples = [sample for group in groups for sample in group.samples]
        flat = [value for group in advantages for value in group.values]
        return {
            **_reward_metrics(outcomes),
            "zero_spread_groups": self._learner.total(sum(group.zero_spread for group in advantages)),
            "lr": self._learner.learning_rate,
            **self._update(samples, flat, scored=sum(outcome["reward"] is not None for outcome in outcomes)),
            "seconds": time.perf_counter() - started,
        }

    def _groups(self, prompts: list[tuple[int, Prompt]], step: int) -> list[Group]:
        """N samples of every prompt (given with its place in the step), drawn `rollout_batch` at a time and rewarded together."""
        count = self._settings["samples"]
        wanted = [
            (prompt, derive(self._seed, "rollout", step, place * count + one))
            for place, prompt in prompts
            for one in range(count)
        ]
        size = self._settings["rollout_batch"] or len(wanted)
        samples: list[Sample] = []
        for start in range(0, len(wanted), size):
            part = wanted[start : start + size]
            samples += self._policy.rollout(
                [prompt for prompt, _ in part], [seed for _, seed in part], self._sampling
            )
        rewards = self._rewards(samples)
        return [
            Group(
                prompt=prompt,
                samples=tuple(samples[place : place + count]),
                rewards=tuple(rewards[place : place + count]),
            )
            for (_, prompt), place in zip(prompts, range(0, len(samples), count), strict=True)
        ]

    def _check_scored(self, outcomes: list[Outcome], step: int) -> None:
        reasons = Counter(outcome["unscored"] for outcome in outcomes if outcome["unscored"] is not None)
        allowed, count = self._settings["unscored_tolerance"], reasons.total()
        if count > allowed * len(outcomes):
            named = "; ".join(f"{number} x {reason}" for reason, number in reasons.most_common(NAMED_REASONS))
            raise UnscoredError(
                f"{count} of {len(outcomes)} samples of step {step + 1} have no reward: {named}. Allowed is a share of"
                f" grpo.unscored_tolerance={allowed}. See to what they name and run the same command again, it goes on at this step;"
                " or raise the tolerance, if so few scored samples are enough to learn from"
            )

    def _update(self, samples: list[Sample], advantages: list[float | None], scored: int) -> dict[str, float]:
        """`inner_epochs` optimizer steps; old log-probs are those before the first, under the scored distribution.

        `samples` and `advantages` are this process's, `scored` counts the samples with a reward of all processes.
        """
        size = self._settings["micro_batch"]
        chunks = [
            Batch(samples=samples[start : start + size], advantages=advantages[start : start + size])
            for start in range(0, len(samples), size)
        ]
        with torch.no_grad(), self._reference() as frozen:
            reference = [self._logprobs(frozen, chunk).values_BT for chunk in chunks]
        old: list[Tensor] = []
        gap = actions = 0.0
        totals = {"loss": 0.0, "kl": 0.0, "clip_fraction": 0.0}
        for epoch in range(self._settings["inner_epochs"]):
            for index, chunk in enumerate(chunks):
                new = self._logprobs(self._policy, chunk)
                if epoch == 0:
                    old.append(new.values_BT.detach())
                    gaps = self._sampler_gap(chunk, new)
                    gap, actions = gap + gaps.sum().item(), actions + len(gaps)
                loss, parts = self._loss(chunk, new, old[index], reference[index], scored)
                self._learner.backward(loss)
                for name, value in parts.items():
                    totals[name] += value / self._settings["inner_epochs"]
            norm = self._learner.step()
        means = {name: self._learner.total(value) for name, value in totals.items()}
        return {
            **means,
            "grad_norm": norm,
            "sampler_gap": self._learner.total(gap) / self._learner.total(actions),
        }

    def _logprobs(self, policy: Policy, chunk: Batch) -> TokenLogprobs:
        return policy.logprobs([sample.tokens for sample in chunk.samples], self._scored)

    def _loss(
        self, chunk: Batch, new: TokenLogprobs, old_BT: Tensor, reference_BT: Tensor, scored: int
    ) -> tuple[Tensor, dict[str, float]]:
        """This chunk's part of the clipped objective plus KL; the mean is over all `scored` samples of the step.

        Unscored samples (no advantage) take no part in either.
        """
        values_BT = new.values_BT
        advantage_B1 = values_BT.new_tensor([value or 0.0 for value in chunk.advantages])[:, None]
        unscored_B1 = torch.tensor([value is None for value in chunk.advantages], device=values_BT.device)[
            :, None
        ]
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


def _outcome(sample: Sample, reward: Reward) -> Outcome:
    """What the metrics and the count of unscored samples need of a sample, as plain values."""
    return {
        "reward": reward.total.value,
        "unscored": reward.total.unscored,
        "components": {name: score.value for name, score in reward.components.items()},
        "truncated": sample.tokens.forced_end,
        "faulty": bool(sample.chain.faults),
    }


def _at(edge: float, values: list[float | None]) -> list[float | None]:
    """1 where a value is `edge`, 0 where it is another: their mean is the share that is."""
    return [None if value is None else float(value == edge) for value in values]


def _reward_metrics(outcomes: list[Outcome]) -> Metrics:
    def mean(values: list[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return sum(known) / len(known) if known else None

    components = {
        name: [outcome["components"][name] for outcome in outcomes] for name in outcomes[0]["components"]
    }
    return {
        "reward": mean([outcome["reward"] for outcome in outcomes]),
        **{f"component/{name}": mean(values) for name, values in components.items()},
        **{
            f"at_{edge}/{name}": mean(_at(edge, values))
            for edge in (0, 1)
            for name, values in components.items()
        },
        "unscored": sum(outcome["reward"] is None for outcome in outcomes),
        "truncated_chains": sum(outcome["truncated"] for outcome in outcomes),
        "faulty_chains": sum(outcome["faulty"] for outcome in outcomes),
    }
