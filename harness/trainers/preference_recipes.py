"""The `trainers=` components that train on preference pairs. No torch here: stages name their programs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from harness.protocols import Trainer
from harness.reward.function import used_components
from harness.settings import choice, number, share, whole_number
from harness.trainers.grpo_settings import IMAGE_LOGPROBS
from harness.trainers.optimizer_settings import check_lora, check_optimizer
from harness.trainers.recipes import Sft, check_training_prompts, check_training_rollout
from harness.types import Config, Stage


class Dpo(Trainer):
    """Direct preference optimization (arXiv 2305.18290) on pairs that the rewards rank.

    Args:
        dpo: the settings under `dpo`.
    """

    def __init__(self, *, dpo: Mapping[str, Any]) -> None:
        check_optimizer("dpo", dpo)
        for name in ("pairs", "samples", "micro_batch"):
            whole_number(f"dpo.{name}", dpo[name])
        if dpo["samples"] < 2:
            raise ValueError(f"dpo.samples={dpo['samples']}: a pair needs at least 2 samples of a prompt")
        number("dpo.beta", dpo["beta"], above=0)
        if dpo["renew_every"] is not None:
            _check_renewal(dpo["renew_every"], dpo["steps"])
        choice("dpo.image_logprobs", dpo["image_logprobs"], IMAGE_LOGPROBS)
        if dpo["rollout_batch"] is not None:
            whole_number("dpo.rollout_batch", dpo["rollout_batch"])
        share("dpo.unscored_tolerance", dpo["unscored_tolerance"])
        check_lora("dpo", dpo["lora"])
        self._dpo = dict(dpo)

    def stages(self, config: Config, start: Stage) -> list[Stage]:
        check_training_rollout(config["rollout"])
        check_training_prompts(json.dumps(config["benchmarks"]))
        settings = {
            "dpo": self._dpo,
            "rollout": config["rollout"],
            "rewards": used_components(config["rewards"]),
            "policy": config["policies"],
            "benchmark": config["benchmarks"],
            "seed": config["seed"],
        }
        program, parallel = "harness.trainers.dpo.train", self._dpo["pairs"]
        return [
            Stage(name="dpo", program=program, settings=settings, inputs={"start": start}, parallel=parallel)
        ]


class SftDpo(Trainer):
    """SFT, then direct preference optimization."""

    def __init__(self, *, sft: Mapping[str, Any], data: Mapping[str, Any], dpo: Mapping[str, Any]) -> None:
        self._sft, self._dpo = Sft(sft=sft, data=data), Dpo(dpo=dpo)

    def stages(self, config: Config, start: Stage) -> list[Stage]:
        imitated = self._sft.stages(config, start)
        return [*imitated, *self._dpo.stages(config, [start, *imitated][-1])]


def _check_renewal(every: Any, steps: int) -> None:
    whole_number("dpo.renew_every", every, hint=", or null for pairs of the start alone")
    if every >= steps:
        raise ValueError(
            f"dpo.renew_every={every} renews nothing in dpo.steps={steps}: give a smaller number, or null for"
            " pairs of the start alone"
        )
