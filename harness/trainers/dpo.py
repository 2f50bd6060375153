"""Stage program `dpo`: direct preference optimization (arXiv 2305.18290) on pairs that the rewards rank.

A pair is the best and the worst of a prompt's samples by the total reward. Its loss is

    -log sigmoid(beta * (gain of the best - gain of the worst)),

where the gain of a sample is its log-probability under the policy minus that under the frozen start, both
sums over all actions of chain and image. A begin-of-image forced at the length limit is not an action. The
loss of a step is the mean over its pairs.

Pairs are drawn in rounds. `renew_every: null` is offline: one round, by the start, for all steps. A number K
draws a round for K steps, by the policy as it is then. A round is drawn whole before a step trains on it.

Several processes can train together. Each takes whole groups, seeds depend on a sample's position in the
step, and every mean is over the whole step, so two processes compute the same as one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from harness.composition.components import make
from harness.reward.function import RewardFunction
from harness.trainers import order
from harness.trainers.frozen_start import Reference, load, write_checkpoint
from harness.trainers.learner import Learner
from harness.trainers.outcomes import Metrics
from harness.trainers.pairs import Pair, PairFile, StepPairs, pair_of
from harness.trainers.rollouts import Rollouts
from harness.trainers.step_rewards import NotJudgedError, StepRewards
from harness.types import Prompt, Sampling, TokenLogprobs

if TYPE_CHECKING:
    from harness.protocols import Policy, Workspace

RESUME_FILES = ("training.pt", "pairs.jsonl")  # of an unfinished stage; see `harness.stages.program`


class Task(NamedTuple):
    """What is done at once: draw the pairs of a step, or train on them."""

    kind: Literal["draw", "train"]
    step: int


def train(work: Workspace, settings: dict[str, Any], inputs: dict[str, Path]) -> None:
    """Runs `dpo.steps` steps from the start checkpoint and writes `checkpoint/`."""
    dpo, seed = settings["dpo"], settings["seed"]
    policy, reference = load(settings["policy"], dpo["lora"], inputs["start"] / "checkpoint", seed)
    prompts = make(settings["benchmark"]).prompts("train")
    if not prompts:
        raise ValueError("the benchmark gave no training prompts: choose one that has them")
    learner = Learner(
        policy.module,
        learning_rate=dpo["learning_rate"],
        steps=dpo["steps"],
        warmup_steps=dpo["warmup_steps"],
        weight_decay=dpo["weight_decay"],
        max_grad_norm=dpo["max_grad_norm"],
    )
    function, sampling = RewardFunction(**make(settings["rewards"])), Sampling(**settings["rollout"])
    rewards = StepRewards(work, function, policy, sampling, dpo["micro_batch"])
    rollouts = Rollouts(policy, rewards, learner, sampling, dpo, seed, "dpo")
    draw = partial(_draw, rollouts, learner, prompts, dpo["pairs"], seed)
    _run(work, dpo, learner, draw, Update(policy, reference, learner, sampling, dpo))
    learner.finish()
    if learner.rank == 0:
        write_checkpoint(policy, work.folder / "checkpoint", has_adapters=bool(dpo["lora"]))


def _run(
    work: Workspace,
    dpo: dict[str, Any],
    learner: Learner,
    draw: Callable[[int], StepPairs],
    update: Callable[[StepPairs], Metrics],
) -> None:
    """Does the tasks that earlier attempts have left. Every round ends with a checkpoint of its own.

    The pairs of a round are thus in the file as long as a checkpoint needs them.
    """
    saved, kept = (work.folder / name for name in RESUME_FILES)
    pairs = PairFile(kept, writes=learner.rank == 0)
    steps, size = dpo["steps"], dpo["renew_every"] or dpo["steps"]
    tasks = schedule(steps, size)
    for number in work.steps(_done(tasks, learner.restore(saved), size, pairs), len(tasks)):
        kind, step = tasks[number]
        if kind == "draw":
            try:
                pairs.add(draw(step), first=step % size == 0)
            except NotJudgedError:  # the workspace ends the program; the steps drawn before are in the file
                continue
            if tasks[number + 1].kind == "draw":  # else the next report is that of a training step
                work.progress(step % size + 1, size)
            work.stopping()
        else:
            work.progress(step + 1, steps, update(pairs[step]))
            last = step + 1 == steps
            due = (step + 1) % size == 0 or (step + 1) % dpo["checkpoint_every"] == 0
            if work.stopping() or last or due:
                learner.save(saved, step + 1, last=last)


def schedule(steps: int, size: int) -> list[Task]:
    """The tasks of a run: for each round of `size` steps, draw for all of them, then train on them."""
    tasks = []
    for start in range(0, steps, size):
        of_round = range(start, min(start + size, steps))
        tasks += [Task("draw", step) for step in of_round]
        tasks += [Task("train", step) for step in of_round]
    return tasks


def _done(tasks: Sequence[Task], trained: int, size: int, pairs: PairFile) -> int:
    """The number of tasks that earlier attempts have done.

    Raises:
        ValueError: pairs are missing that the policy has moved away from since.
    """
    if Task("train", trained) not in tasks:
        return len(tasks)
    start = trained // size * size
    missing = Task("draw", start + pairs.resume(start))
    if missing not in tasks or missing.step >= start + size:
        return tasks.index(Task("train", trained))
    if trained > start:
        raise ValueError(
            f"cannot resume after step {trained}: {RESUME_FILES[1]} lacks the pairs of step"
            f" {missing.step + 1}. Delete {RESUME_FILES[0]}, and the stage starts from the beginning"
        )
    return tasks.index(missing)


def _draw(
    rollouts: Rollouts, learner: Learner, prompts: list[Prompt], count: int, seed: int, step: int
) -> StepPairs:
    """The pairs of the step's groups, of all processes."""
    drawn = rollouts.draw(order.batch(prompts, count, step, seed), step)
    own = []
    for position, group in drawn.own.items():
        pair = pair_of(group, position)
        if pair is not None:
            own.append(pair)
    pairs = learner.collect(own)
    unscored = sum(outcome.reward is None for outcomes in drawn.outcomes for outcome in outcomes)
    without = len(drawn.outcomes) - len(pairs)
    return StepPairs(step=step, pairs=tuple(pairs), groups_without_pair=without, unscored=unscored)


def gains(new: TokenLogprobs, reference_BT: Tensor) -> Tensor:
    """The log-probability of each sample minus that under the frozen start: [B], in nats.

    Differences are summed, not sums subtracted: those are thousands of nats, of which float32 keeps little.
    """
    return ((new.values_BT - reference_BT) * new.action_BT).sum(1)


def pair_losses(best_B: Tensor, worst_B: Tensor, beta: float) -> Tensor:
    """The loss of each pair, from the gains of its two samples (arXiv 2305.18290, equation 7)."""
    return -logsigmoid(beta * (best_B - worst_B))


class Update:
    """Trains a policy on pairs.

    Args:
        policy: is trained.
        reference: the frozen start.
        learner: the optimizer.
        sampling: of the rollouts.
        settings: those under `dpo`.
    """

    def __init__(
        self,
        policy: Policy,
        reference: Reference,
        learner: Learner,
        sampling: Sampling,
        settings: dict[str, Any],
    ) -> None:
        self._policy, self._reference, self._learner = policy, reference, learner
        self._beta, self._micro_batch = settings["beta"], settings["micro_batch"]
        guided = settings["image_logprobs"] == "guided"
        self._sampling = sampling if guided else replace(sampling, guidance=1.0)

    def __call__(self, drawn: StepPairs) -> Metrics:
        """Takes one optimizer step on the pairs of a step and returns its metrics.

        `margin` is beta times the difference of the gains, `accuracy` the share of pairs where it is
        positive; `reward_best` and `reward_worst` are mean totals. They are None for a step without pairs,
        which changes no weight.
        """
        started = time.perf_counter()
        batches = self._micro_batches(drawn)
        with torch.no_grad(), self._reference() as frozen:
            reference = [self._logprobs(frozen, batch).values_BT for batch in batches]
        count = len(drawn.pairs)
        sums = {"loss": 0.0, "accuracy": 0.0, "margin": 0.0}
        for batch, reference_BT in zip(batches, reference, strict=True):
            best_B, worst_B = gains(self._logprobs(self._policy, batch), reference_BT).chunk(2)
            loss = pair_losses(best_B, worst_B, self._beta).sum() / count
            self._learner.backward(loss)
            margin_B = self._beta * (best_B - worst_B).detach()
            sums["loss"] += loss.item()
            sums["accuracy"] += (margin_B > 0).sum().item() / count
            sums["margin"] += margin_B.sum().item() / count
        totals = {name: self._learner.total(value) for name, value in sums.items()}
        learning_rate = self._learner.learning_rate
        return {
            **{name: value if count else None for name, value in totals.items()},
            "reward_best": sum(pair.best_total for pair in drawn.pairs) / count if count else None,
            "reward_worst": sum(pair.worst_total for pair in drawn.pairs) / count if count else None,
            "pairs": count,
            "groups_without_pair": drawn.groups_without_pair,
            "unscored": drawn.unscored,
            "grad_norm": self._learner.step(),
            "lr": learning_rate,
            "seconds": time.perf_counter() - started,
        }

    def _micro_batches(self, drawn: StepPairs) -> list[list[Pair]]:
        """The pairs of this process, `micro_batch` at a time."""
        positions = set(self._learner.share(range(drawn.groups)))
        own = [pair for pair in drawn.pairs if pair.position in positions]
        return [own[start : start + self._micro_batch] for start in range(0, len(own), self._micro_batch)]

    def _logprobs(self, policy: Policy, pairs: Sequence[Pair]) -> TokenLogprobs:
        """Of the best samples, then of the worst."""
        tokens = [*(pair.best for pair in pairs), *(pair.worst for pair in pairs)]
        return policy.logprobs(tokens, self._sampling)
