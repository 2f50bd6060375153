"""The rewards of a step's samples: a part is rewarded in a thread while the policy draws the next one."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from threading import Thread
from typing import TYPE_CHECKING

import torch

from harness.types import Reward, Sample, Sampling

if TYPE_CHECKING:
    from harness.protocols import Policy, Workspace
    from harness.reward.function import RewardFunction


class NotJudgedError(Exception):
    """A stop was requested before the samples of a step were judged. Nothing was trained in this step."""


class StepRewards:
    """Gives the samples of a step their rewards, as `Rollouts` asks for them.

    The components receive part after part, one at a time: judges behind HTTP answer while the policy draws.
    The last part is rewarded in the main thread, so a step of one part needs no other thread.

    Judges may be absent for long, so a request to stop ends the wait for them.

    Args:
        work: of the stage.
        function: gives the rewards.
        policy: measures its own certainty where a component needs it.
        sampling: of the rollouts.
        size: samples that go through the policy at once.
    """

    def __init__(
        self, work: Workspace, function: RewardFunction, policy: Policy, sampling: Sampling, size: int
    ) -> None:
        self._work, self._function = work, function
        self._policy, self._sampling, self._size = policy, sampling, size
        self._samples: list[Sample] = []
        self._parts: list[Future[list[Reward]]] = []

    def begin(self, samples: Sequence[Sample]) -> None:
        """Have a part of the step rewarded beside the caller, who draws the next.

        Where a component needs certainty, the part waits for the last one: only the main thread uses the
        policy, and the batches that measure certainty must not depend on the parts.
        """
        self._samples += samples
        if not self._function.needs_certainty:
            self._parts.append(_rewarded(self._function, samples, self._parts[-1:]))

    def finish(self, samples: Sequence[Sample]) -> list[Reward]:
        """Return the rewards of all samples of the step, in order; `samples` are its last part.

        Raises:
            NotJudgedError: a stop was requested of any rank.
        """
        of_step, self._samples = [*self._samples, *samples], []
        parts, self._parts = self._parts, []
        if self._function.needs_certainty:
            of_step = with_certainty(self._policy, of_step, self._sampling, self._size)
        given = self._work.interruptible(partial(self._rewards, of_step, parts))
        if self._work.stopping() or given is None:
            raise NotJudgedError
        return given

    def _rewards(self, samples: list[Sample], parts: Sequence[Future[list[Reward]]]) -> list[Reward]:
        """The rewards of the parts, and of the samples after them.

        A judge decides over all questions of a call whether a refusal concerns a question or the run. So
        where a part is refused, the whole step is judged in one call.
        """
        given: list[Reward] = []
        try:
            for part in parts:
                given += part.result()
            return given + self._function(samples[len(given) :])
        except ValueError:
            if not parts:
                raise
        return self._function(samples)


def _rewarded(
    function: RewardFunction, samples: Sequence[Sample], before: Sequence[Future[list[Reward]]]
) -> Future[list[Reward]]:
    """The rewards of samples, given in a thread once the parts before have theirs.

    The thread is a daemon: a stop does not wait for a judge that is silent.
    """
    rewards: Future[list[Reward]] = Future()
    device = torch.cuda.current_device() if torch.cuda.is_initialized() else -1  # -1: none

    def give() -> None:
        try:
            for part in before:
                part.result()
            with torch.cuda.device(device):  # a thread begins on GPU 0, whatever the rank's GPU is
                rewards.set_result(function(samples))
        except BaseException as error:
            rewards.set_exception(error)

    Thread(target=give, name="rewards", daemon=True).start()
    return rewards


@torch.no_grad()
def with_certainty(policy: Policy, samples: Sequence[Sample], sampling: Sampling, size: int) -> list[Sample]:
    """The samples with `certainty`, measured `size` samples at a time."""
    measured = []
    for start in range(0, len(samples), size):
        chunk = samples[start : start + size]
        scored = policy.logprobs([sample.tokens for sample in chunk], sampling, measures=("certainty",))
        rows = scored.measures["certainty"].tolist()
        for sample, row in zip(chunk, rows, strict=True):
            measured.append(replace(sample, certainty=tuple(row[: len(sample.logprobs)])))
    return measured
