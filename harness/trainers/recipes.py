"""The `trainers=` components: the stages of each trainer. No torch here: stages name their programs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from harness.composition.components import make
from harness.protocols import Trainer
from harness.reward.function import used_components
from harness.settings import check_rollout, flag, share, whole_number
from harness.trainers import grpo_settings
from harness.trainers.optimizer_settings import check_optimizer
from harness.types import Config, Stage

if TYPE_CHECKING:
    from harness.protocols import PolicyRecipe, TrainingData


class Sft(Trainer):
    """Supervised fine-tuning on GoT records (paper section 3, stage 1): records to ids, then training.

    `sft.steps=0` skips both.

    Args:
        sft: the settings under `sft`.
        data: the settings of the `data=` component.
    """

    def __init__(self, *, sft: Mapping[str, Any], data: Mapping[str, Any]) -> None:
        check_optimizer("sft", sft, steps_from=0)
        whole_number("sft.batch_size", sft["batch_size"])
        for name in ("records", "micro_batch"):
            if sft[name] is not None:
                whole_number(f"sft.{name}", sft[name])
        if sft["records"] is not None and sft["batch_size"] > sft["records"]:
            raise ValueError(
                f"sft.batch_size={sft['batch_size']} exceeds sft.records={sft['records']}: lower it"
                " or give more records"
            )
        for name in ("condition_dropout", "chain_dropout"):
            share(f"sft.{name}", sft[name], whole=False)
        flag("sft.fsdp", sft["fsdp"])
        self._sft, self._data = dict(sft), dict(data)

    def stages(self, config: Config, start: Stage) -> list[Stage]:
        if self._sft["steps"] == 0:
            return []
        policy, seed = config["policies"], config["sft_seed"]
        tokens = self._tokens(policy, seed, start)
        settings = {"sft": self._sft, "policy": policy, "seed": seed}
        inputs, batch_size = {"start": start, "tokens": tokens}, self._sft["batch_size"]
        whole_halves = batch_size % 2 == 0 and 2 * (self._sft["micro_batch"] or batch_size) >= batch_size
        return [
            tokens,
            Stage(
                name="sft",
                program="harness.trainers.sft.train",
                settings=settings,
                inputs=inputs,
                parallel=batch_size,
                halves=whole_halves and not self._sft["fsdp"],
            ),
        ]

    def _tokens(self, policy: Mapping[str, Any], seed: int, start: Stage) -> Stage:
        data: TrainingData = make(self._data)
        recipe: PolicyRecipe = make(policy)
        if self._sft["chain_dropout"] and not recipe.writes_chains:
            raise ValueError(
                f"sft.chain_dropout={self._sft['chain_dropout']}: this policy writes no chains, so there are"
                " none to drop. Set it to 0, or choose a policy that writes chains"
            )
        if data.endless and self._sft["records"] is None:
            raise ValueError(
                "sft.records=null means all records, and those of this data= have no end: give a whole number"
                " from 1"
            )
        settings = {
            "data": self._data,
            "listing": [list(file) for file in data.listing],
            "policy": {**policy, **recipe.encoding},
            "records": self._sft["records"],
            "seed": seed if data.endless else None,
        }
        program, external = "harness.data.tokens.encode", tuple(data.external)
        return Stage(
            name="tokens",
            program=program,
            settings=settings,
            inputs={"start": start},
            external=external,
            parallel=0,
            halves=True,
        )


class Frozen(Trainer):
    """No training: the checkpoint is evaluated as it is."""

    trains = False

    def stages(self, config: Config, start: Stage) -> list[Stage]:
        return []


class Grpo(Trainer):
    """GRPO against the rewards, straight from the policy's checkpoint (paper section 3, stage 2)."""

    def __init__(self, *, grpo: Mapping[str, Any]) -> None:
        grpo_settings.check(grpo)
        self._grpo = dict(grpo)

    def stages(self, config: Config, start: Stage) -> list[Stage]:
        check_training_rollout(config["rollout"])
        check_training_prompts(json.dumps(config["benchmarks"]))
        rewards = used_components(config["rewards"])
        grpo_settings.check_together(self._grpo, config["rollout"], rewards)
        settings = {
            "grpo": self._grpo,
            "rollout": config["rollout"],
            "rewards": rewards,
            "policy": config["policies"],
            "benchmark": config["benchmarks"],
            "seed": config["seed"],
        }
        program, parallel = "harness.trainers.grpo.train", self._grpo["prompts"]
        return [
            Stage(name="grpo", program=program, settings=settings, inputs={"start": start}, parallel=parallel)
        ]


class SftGrpo(Trainer):
    """SFT, then GRPO against the rewards (paper section 3, stages 1 and 2)."""

    def __init__(self, *, sft: Mapping[str, Any], data: Mapping[str, Any], grpo: Mapping[str, Any]) -> None:
        self._sft, self._grpo = Sft(sft=sft, data=data), Grpo(grpo=grpo)

    def stages(self, config: Config, start: Stage) -> list[Stage]:
        imitated = self._sft.stages(config, start)
        return [*imitated, *self._grpo.stages(config, [start, *imitated][-1])]


@cache
def check_training_prompts(benchmark: str) -> None:
    """Raises the error of a benchmark without training prompts before anything is trained.

    `benchmark` are its settings as JSON, so that the result can be cached.
    """
    make(json.loads(benchmark)).prompts("train")


def check_training_rollout(rollout: Mapping[str, Any]) -> None:
    """Refuses rollout settings that cannot be, or whose samples cannot be compared, before any job."""
    check_rollout("rollout", rollout)
    if rollout["random"] == "upstream":
        raise ValueError(
            "rollout.random=upstream gives all samples of a prompt one chain, so no group compares chains:"
            " train with per_sample (evaluation.rollout.random=upstream draws the benchmark's prompts as"
            " GoT-R1's script does)"
        )
