"""The update of a step of GRPO: from samples with advantages to optimizer steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from harness.trainers import kl
from harness.trainers.aggregate import Counts, aggregate
from harness.trainers.credit import STAGES, StageValues
from harness.trainers.frozen_start import Reference
from harness.trainers.token_weights import guidance_weights
from harness.types import Sample, Sampling, TokenLogprobs

if TYPE_CHECKING:
    from harness.protocols import Policy, Ratio
    from harness.trainers.learner import Learner

PENALTIES = {"k2": kl.k2, "k3": kl.k3}  # of a loss


@dataclass(frozen=True, kw_only=True)
class StepCounts:
    """The denominators of a step: of its policy term, of its KL term."""

    policy: Counts
    kl: Counts


@dataclass(frozen=True, kw_only=True)
class MicroBatch:
    """Samples that go through the model at once, with their advantages by stage (None: unscored)."""

    samples: Sequence[Sample]
    advantages: Sequence[StageValues | None]


class Update:
    """Trains a policy on samples.

    Args:
        policy: is trained.
        reference: the frozen start.
        ratio: the loss of an action.
        learner: the optimizer.
        sampling: of the rollouts.
        settings: those under `grpo`.
    """

    def __init__(
        self,
        policy: Policy,
        reference: Reference,
        ratio: Ratio,
        learner: Learner,
        sampling: Sampling,
        settings: Mapping[str, Any],
    ) -> None:
        self._policy, self._reference, self._ratio, self._learner = policy, reference, ratio, learner
        self._settings = settings
        guided = settings["image_logprobs"] == "guided"
        self._sampling = sampling if guided else replace(sampling, guidance=1.0)
        self._trains_sampled_distribution = guided or sampling.guidance <= 1
        penalized = settings["kl_weight"] > 0
        self._kl = PENALTIES[settings["kl"]] if penalized and settings["kl"] != "reward" else None
        self._weighs = settings["token_weights"] == "guidance"

    def __call__(
        self, samples: Sequence[Sample], advantages: Sequence[StageValues | None], counts: StepCounts
    ) -> dict[str, float]:
        """Takes `inner_epochs` optimizer steps and returns their mean loss terms.

        The old log-probs are those before the first step, under the distribution that is trained.

        Args:
            samples: of this process.
            advantages: of these samples.
            counts: of all processes.
        """
        batches = self._micro_batches(samples, advantages)
        reference: Sequence[Tensor | None] = [None] * len(batches)
        if self._kl is not None:
            with torch.no_grad(), self._reference() as frozen:
                reference = [self._logprobs(frozen, batch.samples).values_BT for batch in batches]
        old: list[Tensor] = []
        measured = dict.fromkeys(("gap", "actions", *STAGES, *map("entropy/{}".format, STAGES)), 0.0)
        epochs = self._settings["inner_epochs"]
        sums: dict[str, float] = {}
        for epoch in range(epochs):
            for index, batch in enumerate(batches):
                new = self._logprobs(self._policy, batch.samples, self._measures(epoch))
                if epoch == 0:
                    old.append(new.values_BT.detach())
                    for name, value in self._measure(batch, new).items():
                        measured[name] += value
                loss, terms = self._loss(batch, new, old[index], reference[index], counts)
                self._learner.backward(loss)
                for name, value in terms.items():
                    sums[name] = sums.get(name, 0.0) + value / epochs
            grad_norm = self._learner.step()
        means = {name: self._learner.total(sums.get(name, 0.0)) for name in self._terms()}
        return {**means, "grad_norm": grad_norm, **self._measurements(measured)}

    def penalties(self, samples: Sequence[Sample]) -> list[StageValues]:
        """The KL penalty of every sample by stage, for `kl=reward`: `kl_weight` times the sum of k1."""
        taken_off: list[StageValues] = []
        for batch in self._micro_batches(samples, [None] * len(samples)):
            with torch.no_grad():
                new = self._logprobs(self._policy, batch.samples)
                with self._reference() as frozen:
                    reference = self._logprobs(frozen, batch.samples)
            terms_BT = self._settings["kl_weight"] * kl.k1(new.values_BT, reference.values_BT)
            sums = [(terms_BT * region_BT).sum(1).tolist() for region_BT in _stages(new)]
            taken_off += [dict(zip(STAGES, values, strict=True)) for values in zip(*sums, strict=True)]
        return taken_off

    def _micro_batches(
        self, samples: Sequence[Sample], advantages: Sequence[StageValues | None]
    ) -> list[MicroBatch]:
        size = self._settings["micro_batch"]
        batches = []
        for start in range(0, len(samples), size):
            chunk = slice(start, start + size)
            batches.append(MicroBatch(samples=samples[chunk], advantages=advantages[chunk]))
        return batches

    def _measures(self, epoch: int) -> tuple[str, ...]:
        entropy = ("entropy",) if epoch == 0 else ()
        return (*entropy, "contrast") if self._weighs else entropy

    def _logprobs(
        self, policy: Policy, samples: Sequence[Sample], measures: Sequence[str] = ()
    ) -> TokenLogprobs:
        return policy.logprobs([sample.tokens for sample in samples], self._sampling, measures=measures)

    def _terms(self) -> list[str]:
        """The names of the terms of a loss."""
        return ["loss", "clip_fraction", *(["kl", "kl/chain", "kl/image"] if self._kl else [])]

    def _loss(
        self,
        batch: MicroBatch,
        new: TokenLogprobs,
        old_BT: Tensor,
        reference_BT: Tensor | None,
        counts: StepCounts,
    ) -> tuple[Tensor, dict[str, float]]:
        """The objective of one micro-batch, and its terms. Unscored samples contribute to no term."""
        values_BT, image_BT = new.values_BT, new.image_BT
        action_BT = self._counted(batch, new)
        advantage_BT = self._advantages(batch, new, action_BT)
        regions = [action_BT]
        if self._settings["credit"] != "total":
            regions = [action_BT & ~image_BT, action_BT & image_BT]
        loss_BT, clipped_BT = self._ratio(values_BT, old_BT, advantage_BT, regions)
        horizon = self._horizon(batch)
        mean = partial(aggregate, action_BT=action_BT, image_BT=image_BT, horizon=horizon)
        loss = mean(self._settings["aggregate"], loss_BT, counts=counts.policy)
        terms = {}
        if self._kl is not None and reference_BT is not None:
            kl_BT = self._kl(values_BT, reference_BT)
            penalty = mean(self._settings["aggregate"], kl_BT, counts=counts.kl)
            loss = self._settings["kl_weight"] * penalty + loss
            terms["kl"] = penalty.item()
            terms |= _by_stage(kl_BT.detach(), action_BT, image_BT, counts.kl)
        clipped = mean("sample", clipped_BT.float(), counts=counts.kl)
        return loss, {"loss": loss.item(), "clip_fraction": clipped.item(), **terms}

    def _counted(self, batch: MicroBatch, new: TokenLogprobs) -> Tensor:
        """[B, T] the actions that count in the loss: of scored samples."""
        device = new.values_BT.device
        unscored_B = torch.tensor([value is None for value in batch.advantages], device=device)
        action_BT = new.action_BT & ~unscored_B[:, None]
        if self._settings["truncated"] != "mask":
            return action_BT
        truncated_B = torch.tensor([sample.tokens.forced_end for sample in batch.samples], device=device)
        return action_BT & ~(truncated_B[:, None] & ~new.image_BT)

    def _advantages(self, batch: MicroBatch, new: TokenLogprobs, action_BT: Tensor) -> Tensor:
        """[B, T] the advantage of every action: that of its stage, times its weight."""
        chain_B1, image_B1 = (
            new.values_BT.new_tensor([values[stage] if values else 0.0 for values in batch.advantages])[
                :, None
            ]
            for stage in STAGES
        )
        advantage_BT = torch.where(new.image_BT, image_B1, chain_B1)
        if not self._weighs:
            return advantage_BT
        return advantage_BT * guidance_weights(new.measures["contrast"], action_BT & new.image_BT)

    def _horizon(self, batch: MicroBatch) -> int:
        """The largest number of actions of a sample."""
        return self._sampling.max_chain_tokens + len(batch.samples[0].tokens.image)

    def _measure(self, batch: MicroBatch, new: TokenLogprobs) -> dict[str, float]:
        """Sums over the actions of a micro-batch: replay gap, numbers of actions, entropies."""
        gaps = self._sampler_gaps(batch, new)
        sums = {"gap": gaps.sum().item(), "actions": float(len(gaps))}
        for stage, region_BT in zip(STAGES, _stages(new), strict=True):
            sums[stage] = region_BT.sum().item()
            sums[f"entropy/{stage}"] = (new.measures["entropy"] * region_BT).sum().item()
        return sums

    def _measurements(self, sums: Mapping[str, float]) -> dict[str, float]:
        """The means of all processes: `sampler_gap` and the entropy of each stage."""
        totals = {name: self._learner.total(value) for name, value in sums.items()}
        means = {"sampler_gap": totals["gap"] / totals["actions"]}
        for stage in STAGES:
            means[f"entropy/{stage}"] = totals[f"entropy/{stage}"] / max(totals[stage], 1.0)
        return means

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


def _stages(new: TokenLogprobs) -> list[Tensor]:
    """[B, T] the actions of the chain, and those of the image."""
    return [new.action_BT & ~new.image_BT, new.action_BT & new.image_BT]


def _by_stage(kl_BT: Tensor, action_BT: Tensor, image_BT: Tensor, counts: Counts) -> dict[str, float]:
    """The mean KL of each stage, over its actions and then over samples."""
    means = {}
    for stage, region_BT, samples in (
        ("chain", action_BT & ~image_BT, counts.with_chain),
        ("image", action_BT & image_BT, counts.with_image),
    ):
        of_stage = replace(counts, samples=samples)
        means[f"kl/{stage}"] = aggregate("sample", kl_BT, region_BT, image_BT, of_stage, 1).item()
    return means
