"""Stage program `grpo`: group relative policy optimization over chain and image tokens.

`Grpo.step` is the algorithm: rollouts, rewards, advantages, and a clipped-ratio update with a KL penalty
(k3 estimator) to the frozen start. It differs from the textbook in three points. The loss is a mean over
each sample's tokens, then over samples. A begin-of-image forced at the length limit is not an action.
Unscored samples and groups without spread have no advantage; the metrics count them.

Several processes can train together. Each takes whole groups, seeds depend on a sample's position in the
step, and every mean is over the whole step, so two processes compute the same as one.

`image_logprobs` names the distribution whose log-probs enter the ratio and the KL: `guided` is the one
that was sampled from; `conditional` differs from it if guidance > 1, by `sampler_gap` nats per action.
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
from harness.trainers import lora, order
from harness.trainers.advantage import group_advantages
from harness.trainers.learner import Learner
from harness.trainers.outcomes import Metrics, Outcome, outcomes_of, reward_metrics
from harness.types import Group, Prompt, Reward, Sample, Sampling, TokenLogprobs

if TYPE_CHECKING:
    from harness.protocols import Policy, Workspace

Reference = Callable[[], "AbstractContextManager[Policy]"]  # opens a context with the frozen start
RESUME_FILES = ("training.pt",)  # of an unfinished stage; see `harness.stages.program`
NAMED_REASONS = 5  # how many reasons for unscored samples an error names, the most frequent first


def train(work: Workspace, settings: dict[str, Any], inputs: dict[str, Path]) -> None:
    """Runs `grpo.steps` steps from the start checkpoint and writes `checkpoint/`."""
    grpo = settings["grpo"]
    policy, reference = _load(settings, inputs["start"] / "checkpoint")
    prompts = make(settings["benchmark"]).prompts("train")
    if not prompts:
        raise ValueError("the benchmark gave no training prompts: choose one that has them")
    learner = Learner(
        policy.module,
        learning_rate=grpo["learning_rate"],
        steps=grpo["steps"] * grpo["inner_epochs"],
        warmup_steps=grpo["warmup_steps"],
        weight_decay=grpo["weight_decay"],
        max_grad_norm=grpo["max_grad_norm"],
    )
    rewards = partial(_rewards, work, RewardFunction(**make(settings["rewards"])))
    run = Grpo(policy, reference, rewards, learner, Sampling(**settings["rollout"]), grpo, settings["seed"])
    saved = work.folder / RESUME_FILES[0]
    for step in work.steps(learner.restore(saved), grpo["steps"]):
        try:
            metrics = run.step(order.batch(prompts, grpo["prompts"], step, settings["seed"]), step)
        except UnscoredError:
            learner.save(saved, step)
            raise
        except NotJudgedError:  # the workspace ends the program
            learner.save(saved, step)
            continue
        work.progress(step + 1, grpo["steps"], metrics)
        last = step + 1 == grpo["steps"]
        if work.stopping() or last or (step + 1) % grpo["checkpoint_every"] == 0:
            learner.save(saved, step + 1, last=last)
    learner.finish()
    if learner.rank == 0:
        _write_checkpoint(policy, work.folder / "checkpoint", has_adapters=bool(grpo["lora"]))


class UnscoredError(ValueError):
    """Too many samples of a step have no reward. The experts that judge have failed, not the policy."""


class NotJudgedError(Exception):
    """A stop was requested before the samples of a step were judged. Nothing was trained in this step."""


def _rewards(work: Workspace, function: RewardFunction, samples: list[Sample]) -> list[Reward]:
    """The rewards of samples. Judges may be absent for long, so a request to stop ends the wait.

    Raises:
        NotJudgedError: a stop was requested of any rank.
    """
    rewards = work.interruptible(partial(function, samples))
    if work.stopping() or rewards is None:
        raise NotJudgedError
    return rewards


def _write_checkpoint(policy: Policy, checkpoint: Path, *, has_adapters: bool) -> None:
    """Writes the trained policy. Adapters are written to `lora/` first, then folded into the weights."""
    if has_adapters:
        lora.write(policy.module, checkpoint / "lora")
        lora.merge(policy.module)
    policy.save(checkpoint)


def _load(settings: dict[str, Any], start: Path) -> tuple[Policy, Reference]:
    """The policy to train and its frozen start.

    For full weights the start is a second copy of the model; for LoRA it is the policy without adapters.
    """
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
class MicroBatch:
    """Samples that go through the model at once, with their advantages (None: unscored)."""

    samples: list[Sample]
    advantages: list[float | None]


class Grpo:
    """One training run; `step` is the algorithm."""

    def __init__(
        self,
        policy: Policy,
        reference: Reference,
        rewards: Callable[[list[Sample]], list[Reward]],
        learner: Learner,
        sampling: Sampling,
        settings: dict[str, Any],
        seed: int,
    ) -> None:
        self._policy, self._reference, self._rewards, self._learner = policy, reference, rewards, learner
        self._sampling, self._settings, self._seed = sampling, settings, seed
        guided = settings["image_logprobs"] == "guided"
        self._trained_sampling = sampling if guided else replace(sampling, guidance=1.0)
        self._trains_sampled_distribution = guided or sampling.guidance <= 1

    def step(self, prompts: list[Prompt], step: int) -> Metrics:
        """Runs one step: rollouts, rewards, advantages, update. Returns the metrics of the step.

        Args:
            prompts: of the whole step; this process works on its share.
            step: the step's number, from 0.

        Raises:
            UnscoredError: more samples have no reward than `unscored_tolerance` allows. Nothing was trained.
            NotJudgedError: a stop was requested before the samples were judged. Nothing was trained.
        """
        started = time.perf_counter()
        samples = self._rollout(self._learner.share(list(enumerate(prompts))), step)
        groups = self._group(samples, self._rewards(samples))
        outcomes = self._learner.collect(outcomes_of(groups))  # of all processes
        self._check_scored(outcomes, step)

        metrics = reward_metrics(outcomes)
        advantages: list[float | None] = []
        zero_spread = 0
        for group in groups:
            result = group_advantages([reward.total.value for reward in group.rewards])
            advantages += result.values
            zero_spread += result.zero_spread
        metrics["zero_spread_groups"] = self._learner.total(zero_spread)
        metrics["lr"] = self._learner.learning_rate

        scored = sum(outcome.reward is not None for outcome in outcomes)
        metrics |= self._update(self._micro_batches(samples, advantages), scored)
        metrics["seconds"] = time.perf_counter() - started
        return metrics

    def _rollout(self, prompts: list[tuple[int, Prompt]], step: int) -> list[Sample]:
        """N samples per prompt, drawn `rollout_batch` at a time.

        `prompts` are pairs of the prompt's position in the step, on which the seeds depend, and the prompt.
        """
        group_size = self._settings["samples"]
        repeated: list[Prompt] = []
        seeds: list[int] = []
        for position, prompt in prompts:
            for number in range(group_size):
                repeated.append(prompt)
                seeds.append(derive(self._seed, "rollout", step, position * group_size + number))
        size = self._settings["rollout_batch"] or len(repeated)
        samples: list[Sample] = []
        for start in range(0, len(repeated), size):
            chunk = slice(start, start + size)
            samples += self._policy.rollout(repeated[chunk], seeds[chunk], self._sampling)
        return samples

    def _group(self, samples: list[Sample], rewards: list[Reward]) -> list[Group]:
        size = self._settings["samples"]
        groups = []
        for start in range(0, len(samples), size):
            prompt, members = samples[start].prompt, slice(start, start + size)
            group = Group(prompt=prompt, samples=tuple(samples[members]), rewards=tuple(rewards[members]))
            groups.append(group)
        return groups

    def _check_scored(self, outcomes: list[Outcome], step: int) -> None:
        reasons = Counter(outcome.unscored for outcome in outcomes if outcome.unscored is not None)
        tolerance, count = self._settings["unscored_tolerance"], reasons.total()
        if count > tolerance * len(outcomes):
            named = "; ".join(f"{number} x {reason}" for reason, number in reasons.most_common(NAMED_REASONS))
            raise UnscoredError(
                f"{count} of {len(outcomes)} samples of step {step + 1} have no reward: {named}. Allowed is a"
                f" share of grpo.unscored_tolerance={tolerance}. Fix the cause and run the same command again"
                " to resume at this step; or raise the tolerance if so few scored samples are enough"
            )

    def _micro_batches(self, samples: list[Sample], advantages: list[float | None]) -> list[MicroBatch]:
        size = self._settings["micro_batch"]
        batches = []
        for start in range(0, len(samples), size):
            chunk = slice(start, start + size)
            batches.append(MicroBatch(samples=samples[chunk], advantages=advantages[chunk]))
        return batches

    def _update(self, batches: list[MicroBatch], scored: int) -> dict[str, float]:
        """Takes `inner_epochs` optimizer steps and returns their mean loss terms.

        The old log-probs are those before the first step, under the distribution that is trained.

        Args:
            batches: the samples of this process.
            scored: how many samples of all processes have a reward.
        """
        with torch.no_grad(), self._reference() as frozen:
            reference = [self._logprobs(frozen, batch).values_BT for batch in batches]
        old: list[Tensor] = []
        gap = actions = 0.0
        epochs = self._settings["inner_epochs"]
        sums = {"loss": 0.0, "kl": 0.0, "clip_fraction": 0.0}
        for epoch in range(epochs):
            for index, batch in enumerate(batches):
                new = self._logprobs(self._policy, batch)
                if epoch == 0:
                    old.append(new.values_BT.detach())
                    gaps = self._sampler_gaps(batch, new)
                    gap += gaps.sum().item()
                    actions += len(gaps)
                loss, terms = self._loss(batch, new, old[index], reference[index], scored)
                self._learner.backward(loss)
                for name, value in terms.items():
                    sums[name] += value / epochs
            grad_norm = self._learner.step()
        means = {name: self._learner.total(value) for name, value in sums.items()}
        sampler_gap = self._learner.total(gap) / self._learner.total(actions)
        return {**means, "grad_norm": grad_norm, "sampler_gap": sampler_gap}

    def _logprobs(self, policy: Policy, batch: MicroBatch) -> TokenLogprobs:
        return policy.logprobs([sample.tokens for sample in batch.samples], self._trained_sampling)

    def _loss(
        self, batch: MicroBatch, new: TokenLogprobs, old_BT: Tensor, reference_BT: Tensor, scored: int
    ) -> tuple[Tensor, dict[str, float]]:
        """The clipped objective plus KL of one micro-batch, and its terms.

        The mean is over all `scored` samples of the step. Unscored samples contribute to no term.
        """
        values_BT = new.values_BT
        advantage_B1 = values_BT.new_tensor([value or 0.0 for value in batch.advantages])[:, None]
        unscored_B = torch.tensor([value is None for value in batch.advantages], device=values_BT.device)
        action_BT = new.action_BT & ~unscored_B[:, None]
        actions_B = action_BT.sum(1).clamp(min=1)

        def mean(terms_BT: Tensor) -> Tensor:
            return ((terms_BT * action_BT).sum(1) / actions_B).sum() / max(scored, 1)

        clip = self._settings["clip"]
        ratio_BT = (values_BT - old_BT).exp()
        clipped_BT = ratio_BT.clamp(1 - clip, 1 + clip)
        gain_BT = torch.minimum(ratio_BT * advantage_B1, clipped_BT * advantage_B1)
        gap_BT = reference_BT - values_BT
        kl = mean(gap_BT.exp() - gap_BT - 1)
        loss = self._settings["kl_weight"] * kl - mean(gain_BT)
        outside = mean((ratio_BT != clipped_BT).float())
        return loss, {"loss": loss.item(), "kl": kl.item(), "clip_fraction": outside.item()}

    def _sampler_gaps(self, batch: MicroBatch, replayed: TokenLogprobs) -> Tensor:
        """|replayed - recorded| log-prob of every action.

        Raises:
            ValueError: rollout and training should use the same distribution, and the gap is too large.
        """
        recorded_BT = torch.zeros_like(replayed.values_BT)
        for row_T, sample in zip(recorded_BT, batch.samples, strict=True):
            row_T[: len(sample.logprobs)] = row_T.new_tensor(sample.logprobs)
        gaps = (replayed.values_BT.detach() - recorded_BT).abs()[replayed.action_BT]
        gap, tolerance = gaps.mean().item(), self._settings["gap_tolerance"]
        if self._trains_sampled_distribution and not gap <= tolerance:  # NaN fails this too
            raise ValueError(
                f"replayed log-probs differ from the sampler's by {gap:.2g} nats per token; allowed is"
                f" grpo.gap_tolerance={tolerance}. Rollout and training do not score the same distribution"
                " (low-precision weights alone explain little: find the cause before raising the tolerance)"
            )
        return gaps
