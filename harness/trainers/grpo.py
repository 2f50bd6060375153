"""Stage program `grpo`: group relative policy optimization over chain and image tokens.

`Grpo.step` is the algorithm: rollouts, rewards, advantages, and a clipped-ratio update with a KL penalty
to the frozen start. By default it is the paper's, with three points of its own. The loss is a mean over
each sample's tokens, then over samples. A begin-of-image forced at the length limit is not an action.
Unscored samples and groups without spread have no advantage; the metrics count them.

Every choice is a setting: `harness.trainers.advantage`, `credit`, `ratio`, `aggregate`, `kl`, `length`,
`token_weights` and `resample` hold one each. The order of a step is: rollouts, rewards, the scored samples,
groups with spread, parts of the total, advantages per part, clip, token weights, loss, mean.

Several processes can train together. Each takes whole groups, seeds depend on a sample's position in the
step, and every mean is over the whole step, so two processes compute the same as one.

`image_logprobs` names the distribution whose log-probs enter the ratio and the KL: `guided` is the one
that was sampled from; `conditional` differs from it if guidance > 1, by `sampler_gap` nats per action.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.composition.components import make
from harness.reward.function import RewardFunction
from harness.seeds import derive
from harness.trainers import length, order
from harness.trainers.credit import ROUTED, Credit, Scored, StageValues, has_spread
from harness.trainers.frozen_start import Reference, load, write_checkpoint
from harness.trainers.learner import Learner
from harness.trainers.outcomes import Metrics, Outcome, counts_of, penalty_metrics, reward_metrics
from harness.trainers.resample import first_live
from harness.trainers.rollouts import Drawn, Rollouts, UnscoredError
from harness.trainers.step_rewards import NotJudgedError, StepRewards
from harness.trainers.update import StepCounts, Update
from harness.types import Prompt, Sample, Sampling

if TYPE_CHECKING:
    from harness.protocols import Policy, Workspace

MorePrompts = Callable[[int, int], list[Prompt]]  # step, batch within the step from 1
RESUME_FILES = ("training.pt",)  # of an unfinished stage; see `harness.stages.program`


def train(work: Workspace, settings: dict[str, Any], inputs: dict[str, Path]) -> None:
    """Runs `grpo.steps` steps from the start checkpoint and writes `checkpoint/`."""
    grpo, seed = settings["grpo"], settings["seed"]
    policy, reference = load(settings["policy"], grpo["lora"], inputs["start"] / "checkpoint", seed)
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
    function, sampling = RewardFunction(**make(settings["rewards"])), Sampling(**settings["rollout"])
    rewards = StepRewards(work, function, policy, sampling, grpo["micro_batch"])
    more = partial(more_prompts, prompts, grpo["prompts"], seed)
    run = Grpo(policy, reference, rewards, function, learner, sampling, grpo, seed, more)
    saved = work.folder / RESUME_FILES[0]
    for step in work.steps(learner.restore(saved), grpo["steps"]):
        try:
            metrics = run.step(order.batch(prompts, grpo["prompts"], step, seed), step)
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
        write_checkpoint(policy, work.folder / "checkpoint", has_adapters=bool(grpo["lora"]))


def more_prompts(prompts: list[Prompt], count: int, seed: int, step: int, batch: int) -> list[Prompt]:
    """The prompts of a further batch of a step, whose groups replace those without spread."""
    return order.batch(prompts, count, batch - 1, derive(seed, "resample", step))


class Grpo:
    """One training run; `step` is the algorithm.

    Args:
        policy: is trained.
        reference: the frozen start.
        rewards: score the samples.
        function: the reward that these scores are of.
        learner: the optimizer.
        sampling: of the rollouts.
        settings: those under `grpo`.
        seed: of the run.
        more_prompts: prompts for `zero_spread=resample`.
    """

    def __init__(
        self,
        policy: Policy,
        reference: Reference,
        rewards: StepRewards,
        function: RewardFunction,
        learner: Learner,
        sampling: Sampling,
        settings: dict[str, Any],
        seed: int,
        more_prompts: MorePrompts,
    ) -> None:
        self._learner, self._sampling, self._settings = learner, sampling, settings
        self._rollouts = Rollouts(policy, rewards, learner, sampling, settings, seed, "grpo")
        self._credit = Credit(
            settings["credit"],
            make(settings["advantage"]),
            function.total,
            function.scopes if settings["credit"] in ROUTED else {},
            settings["advantage_clip"],
        )
        self._update = Update(policy, reference, make(settings["ratio"]), learner, sampling, settings)
        self._more_prompts = more_prompts

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
        drawn, resampling = self._draw(prompts, step)
        penalties = self._penalties(drawn)
        advantages = self._credit(self._scored(drawn, penalties))

        metrics = reward_metrics(drawn.outcomes) | resampling | penalty_metrics(penalties.values())
        live = [has_spread(group) for group in advantages]
        metrics["zero_spread_groups"] = live.count(False)
        metrics["zero_spread_share"] = live.count(False) / len(live)
        metrics["lr"] = self._learner.learning_rate

        samples: list[Sample] = []
        own: list[StageValues | None] = []
        for position, group in drawn.own.items():
            samples += group.samples
            own += advantages[position]
        metrics |= self._update(samples, own, self._counts(drawn, live))
        metrics["seconds"] = time.perf_counter() - started
        return metrics

    def _draw(self, prompts: list[Prompt], step: int) -> tuple[Drawn, Metrics]:
        """The groups to train on; with `resample`, further ones are drawn for those without spread."""
        drawn = self._rollouts.draw(prompts, step)
        if self._settings["zero_spread"] != "resample":
            return drawn, {}
        batches, live = 1, self._live(drawn)
        while sum(live) < len(prompts) and batches < self._settings["resample_batches"]:
            more = self._rollouts.draw(self._more_prompts(step, batches), step, f"resample {batches}")
            drawn, live, batches = drawn.with_more(more), live + self._live(more), batches + 1
        chosen = drawn.chosen(first_live(live, len(prompts)))
        discarded = (len(live) - len(prompts)) * self._settings["samples"]
        return chosen, {"resample_batches": batches, "discarded_samples": discarded}

    def _live(self, drawn: Drawn) -> list[bool]:
        return [has_spread(group) for group in self._credit(self._scored(drawn, {}))]

    def _penalties(self, drawn: Drawn) -> dict[int, list[StageValues]]:
        """Position of a group -> KL penalties of its samples; empty unless they are part of the reward."""
        if self._settings["kl"] != "reward" or not self._settings["kl_weight"]:
            return {}
        own = []
        for position, group in drawn.own.items():
            own.append((position, self._update.penalties(group.samples)))
        return dict(self._learner.collect(own))

    def _scored(self, drawn: Drawn, penalties: dict[int, list[StageValues]]) -> list[list[Scored | None]]:
        """What credit asks of every sample of the step."""
        groups: list[list[Scored | None]] = []
        for position, outcomes in enumerate(drawn.outcomes):
            kl = penalties.get(position, [{}] * len(outcomes))
            groups.append([self._deduct(*pair) for pair in zip(outcomes, kl, strict=True)])
        return groups

    def _deduct(self, outcome: Outcome, kl: StageValues) -> Scored | None:
        """The scores of a sample with what is taken off; None if it has no reward."""
        if outcome.reward is None:
            return None
        deductions = dict(kl)
        if self._settings["truncated"] == "penalise":
            penalty = length.overlong_penalty(outcome.chain_actions, self._sampling.max_chain_tokens)
            deductions["chain"] = deductions.get("chain", 0.0) - penalty
        components = {name: value for name, value in outcome.components.items() if value is not None}
        return Scored(components=components, deductions=deductions)

    def _counts(self, drawn: Drawn, live: Sequence[bool]) -> StepCounts:
        """The denominators of the step; with `drop`, groups without spread leave that of the policy term."""
        scored: list[Outcome] = []
        kept: list[Outcome] = []
        for has_advantage, outcomes in zip(live, drawn.outcomes, strict=True):
            of_group = [outcome for outcome in outcomes if outcome.reward is not None]
            scored += of_group
            if has_advantage or self._settings["zero_spread"] != "drop":
                kept += of_group
        counts = partial(counts_of, without_truncated_chains=self._settings["truncated"] == "mask")
        return StepCounts(policy=counts(kept), kl=counts(scored))
