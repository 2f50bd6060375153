"""The rollouts of a step and their rewards: groups of samples for the prompts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.seeds import derive
from harness.trainers.outcomes import Outcome, outcomes_of
from harness.types import Group, Prompt, Reward, Sample, Sampling

if TYPE_CHECKING:
    from harness.protocols import Policy
    from harness.trainers.learner import Learner
    from harness.trainers.step_rewards import StepRewards

NAMED_REASONS = 5  # how many reasons for unscored samples an error names, the most frequent first


class UnscoredError(ValueError):
    """Too many samples of a step have no reward. The experts that judge have failed, not the policy."""


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """Groups of a step.

    `own` are those of this process, by their position among all groups of the step. `outcomes` are those of
    the samples of all processes, group after group.
    """

    own: Mapping[int, Group]
    outcomes: Sequence[Sequence[Outcome]]

    def chosen(self, positions: Sequence[int]) -> Drawn:
        """Only these groups, at new positions in this order."""
        own = {new: self.own[old] for new, old in enumerate(positions) if old in self.own}
        return Drawn(own=own, outcomes=[self.outcomes[position] for position in positions])

    def with_more(self, more: Drawn) -> Drawn:
        """These groups, followed by more of the same step."""
        shift = len(self.outcomes)
        own = {**self.own, **{shift + position: group for position, group in more.own.items()}}
        return Drawn(own=own, outcomes=[*self.outcomes, *more.outcomes])


class Rollouts:
    """Draws groups with a policy and has them scored, each part of `rollout_batch` samples once it is drawn.

    Args:
        policy: draws.
        rewards: score the samples, while the policy draws the next part.
        learner: shares the prompts among processes.
        sampling: of the rollouts.
        settings: `samples` (N per prompt), `rollout_batch`, `micro_batch`, `unscored_tolerance`.
        seed: of the training run.
        section: where the settings stand, for messages.
    """

    def __init__(
        self,
        policy: Policy,
        rewards: StepRewards,
        learner: Learner,
        sampling: Sampling,
        settings: Mapping[str, Any],
        seed: int,
        section: str,
    ) -> None:
        self._policy, self._rewards, self._learner = policy, rewards, learner
        self._sampling, self._settings, self._seed = sampling, settings, seed
        self._section = section

    def draw(self, prompts: Sequence[Prompt], step: int, purpose: str = "rollout") -> Drawn:
        """N samples for every prompt, with their rewards.

        Args:
            prompts: of all processes; this one works on its share.
            step: the step's number, from 0.
            purpose: seeds the samples, together with the step and a sample's position in it.

        Raises:
            UnscoredError: more samples have no reward than `unscored_tolerance` allows.
            NotJudgedError: a stop was requested before the samples were judged.
        """
        share = self._learner.share(list(enumerate(prompts)))
        samples, rewards = self._rollout(share, step, purpose)
        size = self._settings["samples"]
        own = {}
        for number, (position, prompt) in enumerate(share):
            members = slice(number * size, (number + 1) * size)
            own[position] = Group(
                prompt=prompt, samples=tuple(samples[members]), rewards=tuple(rewards[members])
            )
        outcomes = self._learner.collect([outcomes_of(group) for group in own.values()])
        self._check_scored(outcomes, step)
        return Drawn(own=own, outcomes=outcomes)

    def _rollout(
        self, prompts: Sequence[tuple[int, Prompt]], step: int, purpose: str
    ) -> tuple[list[Sample], list[Reward]]:
        """N samples per prompt, drawn `rollout_batch` at a time, and their rewards.

        `prompts` are pairs of the prompt's position in the step, on which the seeds depend, and the prompt.
        """
        group_size = self._settings["samples"]
        repeated: list[Prompt] = []
        seeds: list[int] = []
        for position, prompt in prompts:
            for number in range(group_size):
                repeated.append(prompt)
                seeds.append(derive(self._seed, purpose, step, position * group_size + number))
        size = self._settings["rollout_batch"] or len(repeated)
        samples: list[Sample] = []
        for start in range(0, len(repeated), size):
            chunk = slice(start, start + size)
            part = self._policy.rollout(repeated[chunk], seeds[chunk], self._sampling)
            samples += part
            if len(samples) < len(repeated):
                self._rewards.begin(part)
        return samples, self._rewards.finish(part)

    def _check_scored(self, groups: Sequence[Sequence[Outcome]], step: int) -> None:
        reasons: Counter[str] = Counter()
        for group in groups:
            reasons.update(outcome.unscored for outcome in group if outcome.unscored is not None)
        tolerance, count = self._settings["unscored_tolerance"], reasons.total()
        total = sum(map(len, groups))
        if count > tolerance * total:
            named = "; ".join(f"{number} x {reason}" for reason, number in reasons.most_common(NAMED_REASONS))
            raise UnscoredError(
                f"{count} of {total} samples of step {step + 1} have no reward: {named}. Allowed is a"
                f" share of {self._section}.unscored_tolerance={tolerance}. Fix the cause and run the same"
                " command again to resume at this step; or raise the tolerance if so few scored samples are"
                " enough"
            )
