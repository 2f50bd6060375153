"""The `trainers=` components: which stages a trainer consists of. Torch-free: stages name their programs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.protocols import Config
from harness.reward import used_components
from harness.types import Stage

IMAGE_LOGPROBS = ("guided", "conditional")


def _positive(section: str, settings: Mapping[str, Any], names: tuple[str, ...]) -> None:
    for name in names:
        if not settings[name] > 0:
            raise ValueError(f"{section}.{name}={settings[name]}: give a number above 0")


class Sft:
    """Supervised fine-tuning on the benchmark's GoT records (paper section 3, stage 1)."""

    def __init__(self, *, sft: Mapping[str, Any]) -> None:
        _positive("sft", sft, ("steps", "batch_size", "learning_rate", "records", "checkpoint_every"))
        if sft["batch_size"] > sft["records"]:
            raise ValueError(f"sft.batch_size={sft['batch_size']} exceeds sft.records={sft['records']}: lower it or give more records")
        if not 0 <= sft["condition_dropout"] < 1:
            raise ValueError(f"sft.condition_dropout={sft['condition_dropout']}: give a share from 0 to below 1")
        self._sft = dict(sft)

    def stages(self, config: Config, start: Stage) -> list[Stage]:
        settings = {"sft": self._sft, "policy": config["policies"], "benchmark": config["benchmarks"], "seed": config["sft_seed"]}
        return [Stage(name="sft", program="harness.trainers.sft.train", settings=settings, inputs={"start": start})]


class SftGrpo:
    """SFT, then GRPO against the rewards (paper section 3, stages 1 and 2)."""

    def __init__(self, *, sft: Mapping[str, Any], grpo: Mapping[str, Any]) -> None:
        self._sft = Sft(sft=sft)
        numbers = ("steps", "prompts", "samples", "learning_rate", "inner_epochs", "micro_batch", "checkpoint_every", "gap_tolerance")
        _positive("grpo", grpo, numbers)
        if grpo["samples"] < 2:
            raise ValueError(f"grpo.samples={grpo['samples']}: a group needs at least 2 samples to have an advantage")
        if grpo["image_logprobs"] not in IMAGE_LOGPROBS:
            raise ValueError(f"grpo.image_logprobs={grpo['image_logprobs']!r}: allowed are {' and '.join(IMAGE_LOGPROBS)}")
        self._grpo = dict(grpo)

    def stages(self, config: Config, start: Stage) -> list[Stage]:
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
