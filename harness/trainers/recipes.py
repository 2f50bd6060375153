"""The `trainers=` components: the stages of each trainer. No torch here: stages name their programs."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from harness.composition.components import make
from harness.protocols import Config, Sampling, TrainingData
from harness.reward.function import used_components
from harness.types import Stage

IMAGE_LOGPROBS = ("guided", "conditional")
LORA = ("rank", "alpha", "targets")


def _numbers(
    section: str,
    settings: Mapping[str, Any],
    names: Sequence[str],
    *,
    above: float = -math.inf,
    least: float = -math.inf,
) -> None:
    """Refuses a setting that is no finite number, or is not above `above` or at least `least`."""
    for name in names:
        value = settings[name]
        known = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not (known and value > above and value >= least):
            bound = f"above {above:g}" if above > -math.inf else f"from {least:g}"
            raise ValueError(f"{section}.{name}={value!r}: give a number {bound}")


def _counts(section: str, settings: Mapping[str, Any], names: Sequence[str], *, least: int = 1) -> None:
    for name in names:
        value = settings[name]
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ValueError(f"{section}.{name}={value!r}: give a whole number from {least}")


def _optimisation(section: str, settings: Mapping[str, Any], *, steps_from: int = 1) -> None:
    _counts(section, settings, ("steps",), least=steps_from)
    _counts(section, settings, ("checkpoint_every",))
    _counts(section, settings, ("warmup_steps",), least=0)
    _numbers(section, settings, ("learning_rate", "max_grad_norm"), above=0)
    _numbers(section, settings, ("weight_decay",), least=0)


class Sft:
    """Supervised fine-tuning on GoT records (paper section 3, stage 1): records to ids, then training.

    `sft.steps=0` skips both.

    Args:
        sft: the settings under `sft`.
        data: the settings of the `data=` component.
    """

    def __init__(self, *, sft: Mapping[str, Any], data: Mapping[str, Any]) -> None:
        _optimisation("sft", sft, steps_from=0)
        _counts("sft", sft, ("batch_size",))
        for name in ("records", "micro_batch"):
            if sft[name] is not None:
                _counts("sft", sft, (name,))
        if sft["records"] is not None and sft["batch_size"] > sft["records"]:
            raise ValueError(
                f"sft.batch_size={sft['batch_size']} exceeds sft.records={sft['records']}: lower it or give more records"
            )
        _numbers("sft", sft, ("condition_dropout",), least=0)
        if sft["condition_dropout"] >= 1:
            raise ValueError(
                f"sft.condition_dropout={sft['condition_dropout']}: give a share from 0 to below 1"
            )
        if not isinstance(sft["fsdp"], bool):
            raise ValueError(f"sft.fsdp={sft['fsdp']!r}: give true or false")
        self._sft, self._data = dict(sft), dict(data)

    def stages(self, config: Config, start: Stage) -> list[Stage]:
        if self._sft["steps"] == 0:
            return []
        policy, seed = config["policies"], config["sft_seed"]
        tokens = self._tokens(policy, seed, start)
        settings = {"sft": self._sft, "policy": policy, "seed": seed}
        inputs, parallel = {"start": start, "tokens": tokens}, self._sft["batch_size"]
        return [
            tokens,
            Stage(
                name="sft",
                program="harness.trainers.sft.train",
                settings=settings,
                inputs=inputs,
                parallel=parallel,
            ),
        ]

    def _tokens(self, policy: Mapping[str, Any], seed: int, start: Stage) -> Stage:
        data: TrainingData = make(self._data)
        if data.endless and self._sft["records"] is None:
            raise ValueError(
                "sft.records=null means all records, and those of this data= have no end: give a whole number from 1"
            )
        settings = {
            "data": self._data,
            "listing": [list(file) for file in data.listing],
            "policy": {**policy, **getattr(make(policy), "encoding", {})},
            "records": self._sft["records"],
            "seed": seed if data.endless else None,
        }
        program, external = "harness.data.tokens.encode", tuple(data.external)
        return Stage(
            name="tokens", program=program, settings=settings, inputs={"start": start}, external=external
        )


class Frozen:
    """No training: the checkpoint is evaluated as it is."""

    trains = False

    def stages(self, config: Config, start: Stage) -> list[Stage]:
        return []


class Grpo:
    """GRPO against the rewards, straight from the policy's checkpoint (paper section 3, stage 2)."""

    def __init__(self, *, grpo: Mapping[str, Any]) -> None:
        _optimisation("grpo", grpo)
        _counts("grpo", grpo, ("prompts", "samples", "inner_epochs", "micro_batch"))
        _numbers("grpo", grpo, ("clip", "gap_tolerance"), above=0)
        _numbers("grpo", grpo, ("kl_weight",), least=0)
        if grpo["samples"] < 2:
            raise ValueError(
                f"grpo.samples={grpo['samples']}: a group needs at least 2 samples to have an advantage"
            )
        if grpo["image_logprobs"] not in IMAGE_LOGPROBS:
            raise ValueError(
                f"grpo.image_logprobs={grpo['image_logprobs']!r}: allowed are {' and '.join(IMAGE_LOGPROBS)}"
            )
        if grpo["rollout_batch"] is not None:
            _counts("grpo", grpo, ("rollout_batch",))
        _numbers("grpo", grpo, ("unscored_tolerance",), least=0)
        if grpo["unscored_tolerance"] > 1:
            raise ValueError(
                f"grpo.unscored_tolerance={grpo['unscored_tolerance']}: give a share from 0 to 1"
            )
        _lora(grpo["lora"])
        self._grpo = dict(grpo)

    def stages(self, config: Config, start: Stage) -> list[Stage]:
        _rollout(config["rollout"])
        _check_prompts(json.dumps(config["benchmarks"]))
        settings = {
            "grpo": self._grpo,
            "rollout": config["rollout"],
            "rewards": used_components(config["rewards"]),
            "policy": config["policies"],
            "benchmark": config["benchmarks"],
            "seed": config["seed"],
        }
        program, parallel = "harness.trainers.grpo.train", self._grpo["prompts"]
        return [
            Stage(name="grpo", program=program, settings=settings, inputs={"start": start}, parallel=parallel)
        ]


class SftGrpo:
    """SFT, then GRPO against the rewards (paper section 3, stages 1 and 2)."""

    def __init__(self, *, sft: Mapping[str, Any], data: Mapping[str, Any], grpo: Mapping[str, Any]) -> None:
        self._sft, self._grpo = Sft(sft=sft, data=data), Grpo(grpo=grpo)

    def stages(self, config: Config, start: Stage) -> list[Stage]:
        imitated = self._sft.stages(config, start)
        return [*imitated, *self._grpo.stages(config, [start, *imitated][-1])]


@cache
def _check_prompts(benchmark: str) -> None:
    """Raises the error of a benchmark without training prompts before anything is trained.

    `benchmark` are its settings as JSON, so that the result can be cached.
    """
    make(json.loads(benchmark)).prompts("train")


def _rollout(rollout: Mapping[str, Any]) -> None:
    """Refuses rollout settings that cannot be, or that GRPO cannot train with, before any job."""
    if Sampling(**rollout).random == "upstream":
        raise ValueError(
            "rollout.random=upstream gives all samples of a prompt one chain, so that no group compares chains:"
            " train with per_sample (evaluation.rollout.random=upstream draws the benchmark's prompts as GoT-R1's script)"
        )


def _lora(adapters: Any) -> None:
    if adapters is None:
        return
    if not isinstance(adapters, Mapping) or set(adapters) != set(LORA):
        raise ValueError(f"grpo.lora={adapters!r}: give null for full weights, or {', '.join(LORA)}")
    _counts("grpo.lora", adapters, ("rank", "alpha"))
    try:
        re.compile(adapters["targets"])
    except (re.error, TypeError) as error:
        raise ValueError(
            f"grpo.lora.targets={adapters['targets']!r}: give a regular expression for names of layers ({error})"
        ) from None
