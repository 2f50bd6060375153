"""The `trainers=` components: which stages a trainer consists of. Torch-free: stages name their programs."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from harness.protocols import Config, Sampling
from harness.reward import used_components
from harness.types import Stage

IMAGE_LOGPROBS = ("guided", "conditional")
LORA = ("rank", "alpha", "targets")


def _numbers(
    section: str, settings: Mapping[str, Any], names: Sequence[str], *, above: float = -math.inf, least: float = -math.inf
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


def _optimisation(section: str, settings: Mapping[str, Any]) -> None:
    _counts(section, settings, ("steps", "checkpoint_every"))
    _counts(section, settings, ("warmup_steps",), least=0)
    _numbers(section, settings, ("learning_rate", "max_grad_norm"), above=0)
    _numbers(section, settings, ("weight_decay",), least=0)


class Sft:
    """Supervised fine-tuning on the benchmark's GoT records (paper section 3, stage 1)."""

    def __init__(self, *, sft: Mapping[str, Any]) -> None:
        _optimisation("sft", sft)
        _counts("sft", sft, ("records", "batch_size"))
        if sft["batch_size"] > sft["records"]:
            raise ValueError(f"sft.batch_size={sft['batch_size']} exceeds sft.records={sft['records']}: lower it or give more records")
        _numbers("sft", sft, ("condition_dropout",), least=0)
        if sft["condition_dropout"] >= 1:
            raise ValueError(f"sft.condition_dropout={sft['condition_dropout']}: give a share from 0 to below 1")
        self._sft = dict(sft)

    def stages(self, config: Config, start: Stage) -> list[Stage]:
        settings = {"sft": self._sft, "policy": config["policies"], "benchmark": config["benchmarks"], "seed": config["sft_seed"]}
        return [Stage(name="sft", program="harness.trainers.sft.train", settings=settings, inputs={"start": start})]


class SftGrpo:
    """SFT, then GRPO against the rewards (paper section 3, stages 1 and 2)."""

    def __init__(self, *, sft: Mapping[str, Any], grpo: Mapping[str, Any]) -> None:
        self._sft = Sft(sft=sft)
        _optimisation("grpo", grpo)
        _counts("grpo", grpo, ("prompts", "samples", "inner_epochs", "micro_batch"))
        _numbers("grpo", grpo, ("clip", "gap_tolerance"), above=0)
        _numbers("grpo", grpo, ("kl_weight",), least=0)
        if grpo["samples"] < 2:
            raise ValueError(f"grpo.samples={grpo['samples']}: a group needs at least 2 samples to have an advantage")
        if grpo["image_logprobs"] not in IMAGE_LOGPROBS:
            raise ValueError(f"grpo.image_logprobs={grpo['image_logprobs']!r}: allowed are {' and '.join(IMAGE_LOGPROBS)}")
        _lora(grpo["lora"])
        self._grpo = dict(grpo)

    def stages(self, config: Config, start: Stage) -> list[Stage]:
        Sampling(**config["rollout"])  # refuses wrong settings before any job
        imitated = self._sft.stages(config, start)
        settings = {
            "grpo": self._grpo,
            "rollout": config["rollout"],
            "rewards": used_components(config["rewards"]),
            "policy": config["policies"],
            "benchmark": config["benchmarks"],
            "seed": config["seed"],
        }
        program = "harness.trainers.grpo.train"
        return [*imitated, Stage(name="grpo", program=program, settings=settings, inputs={"start": imitated[-1]})]


def _lora(adapters: Any) -> None:
    if adapters is None:
        return
    if not isinstance(adapters, Mapping) or set(adapters) != set(LORA):
        raise ValueError(f"grpo.lora={adapters!r}: give null for full weights, or {', '.join(LORA)}")
    _counts("grpo.lora", adapters, ("rank", "alpha"))
    try:
        re.compile(adapters["targets"])
    except (re.error, TypeError) as error:
        raise ValueError(f"grpo.lora.targets={adapters['targets']!r}: give a regular expression for names of layers ({error})") from None
