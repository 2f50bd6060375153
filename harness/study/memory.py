"""The memory that a stage needs, estimated from the sizes of the model, without torch.

`harness.study.memory_items` has the formulas.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hydra.utils import get_object

from harness.composition.components import make
from harness.stages.store import StageStore
from harness.study import memory_items as items
from harness.study.memory_items import GB, PROMPT_TOKENS, Item, Training
from harness.types import Stage

if TYPE_CHECKING:
    from harness.protocols import ModelSizes, PolicyRecipe

NAMED_ITEMS = 4  # in an advice


@dataclass(frozen=True, kw_only=True)
class StageMemory:
    """The memory of each process of a stage: `resident` all the time, and one of the phases at a time."""

    stage: str
    resident: tuple[Item, ...]
    phases: Mapping[str, tuple[Item, ...]]

    @property
    def worst(self) -> str:
        """The phase that needs most."""
        return max(self.phases, key=lambda name: sum(item.bytes for item in self.phases[name]))

    @property
    def peak(self) -> float:
        return self.peak_of(self.worst)

    def peak_of(self, phase: str) -> float:
        return sum(item.bytes for item in (*self.resident, *self.phases[phase]))

    def advice(self) -> str:
        """The largest items at the peak, each with the setting that makes it smaller."""
        largest = sorted((*self.resident, *self.phases[self.worst]), key=lambda item: -item.bytes)
        texts = []
        for item in largest[:NAMED_ITEMS]:
            remedy = f" (set {item.remedy})" if item.remedy else ""
            texts.append(f"{item.name} {gigabytes(item.bytes)}{remedy}")
        return "Largest: " + "; ".join(texts)


def gigabytes(count: float) -> str:
    return f"{count / GB:.1f} GB" if count >= GB / 10 else f"{count / 2**20:.1f} MB"


def estimate(
    stage: Stage, config: Mapping[str, Any], store: StageStore, *, processes: int, gpu: bool
) -> StageMemory | None:
    """The memory of one process of a stage; None for a stage or policy whose sizes are not known.

    Args:
        stage: of a planned cell.
        config: the resolved settings of that cell.
        store: holds the starting checkpoint, if it was made already; the sizes are then those of its files.
        processes: the processes that train together.
        gpu: whether it runs on a GPU; this decides the number formats.
    """
    program = ESTIMATES.get(stage.program)
    sizes = _sizes(stage, store) if program else None
    return program(stage.settings, config, sizes, processes, gpu) if program and sizes else None


def _sizes(stage: Stage, store: StageStore) -> ModelSizes | None:
    first = stage
    while first.inputs:
        first = next(iter(first.inputs.values()))
    recipe: PolicyRecipe = make(stage.settings["policy"])
    if recipe.sizes is None:
        return None
    sizes_of = get_object(recipe.sizes)
    return sizes_of(recipe, store.folder(first) / "checkpoint" if store.is_complete(first) else None)


def _grpo(
    settings: Mapping[str, Any], config: Mapping[str, Any], sizes: ModelSizes, processes: int, gpu: bool
) -> StageMemory:
    grpo = settings["grpo"]
    share = grpo["prompts"] * grpo["samples"] // processes
    micro_batch = min(grpo["micro_batch"], share)
    return _on_rollouts("grpo", settings, sizes, processes, gpu, share, micro_batch, sequences=1)


def _dpo(
    settings: Mapping[str, Any], config: Mapping[str, Any], sizes: ModelSizes, processes: int, gpu: bool
) -> StageMemory:
    dpo = settings["dpo"]
    share = dpo["pairs"] // processes
    micro_batch = min(dpo["micro_batch"], share)
    drawn = share * dpo["samples"]
    return _on_rollouts("dpo", settings, sizes, processes, gpu, drawn, micro_batch, sequences=2)


def _on_rollouts(
    stage: str,
    settings: Mapping[str, Any],
    sizes: ModelSizes,
    processes: int,
    gpu: bool,
    share: int,
    micro_batch: int,
    *,
    sequences: int,
) -> StageMemory:
    """A stage that draws samples and trains on them.

    Args:
        stage: its name, under which its settings stand.
        settings: of the stage.
        sizes: of the model.
        processes: train together.
        gpu: whether they have GPUs.
        share: the samples of a step that each process draws.
        micro_batch: the items of a forward pass.
        sequences: of an item.
    """
    own, rollout = settings[stage], settings["rollout"]
    chain, guided = rollout["max_chain_tokens"], rollout["guidance"] > 1
    drawn = min(share, own["rollout_batch"] or share)
    lora = "" if own["lora"] else f"{stage}.lora={{rank: 32, alpha: 32, targets: ...}}"
    half = "policies.weights=bfloat16" if own["lora"] and sizes.weight_bytes > 2 else ""
    training = Training(
        rows=micro_batch * sequences * (2 if guided and own["image_logprobs"] == "guided" else 1),
        tokens=PROMPT_TOKENS + chain + sizes.image_tokens,
        chain=chain,
        adapters=items.adapters(sizes, own["lora"]) if own["lora"] else None,
        shards=1,
        remedies={
            "weights": half or lora,
            "gradients": lora,
            "optimizer": lora,
            "casts": half,
            "activations": _fewer_activations(sizes, f"{stage}.micro_batch", micro_batch),
        },
    )
    resident = items.weights_and_optimizer(sizes, training, gpu)
    if not own["lora"] and own.get("kl_weight", 1):
        resident = (*resident, Item("reference", items.all_weights(sizes), lora))
    fewer = _half(f"{stage}.rollout_batch", drawn)
    phases = items.rollout(sizes, drawn, chain, guided, gpu, fewer)
    phases["rollout"] = (*phases["rollout"], *items.laid_out(sizes, bool(own["lora"]), gpu))
    phases["update"] = items.update(sizes, training, processes, gpu)
    return StageMemory(stage=stage, resident=resident, phases=phases)


def _sft(
    settings: Mapping[str, Any], config: Mapping[str, Any], sizes: ModelSizes, processes: int, gpu: bool
) -> StageMemory:
    sft, chain = settings["sft"], config["rollout"]["max_chain_tokens"]
    share = min(math.ceil(sft["batch_size"] / 2), sft["batch_size"] // processes)  # half after half
    rows = min(sft["micro_batch"] or share, share)
    sharded = sft["fsdp"] and processes > 1
    shard = "" if sharded else "sft.fsdp=true with several resources.processes"
    training = Training(
        rows=rows,
        tokens=PROMPT_TOKENS + chain + sizes.image_tokens,
        chain=chain,
        adapters=None,
        shards=processes if sft["fsdp"] else 1,
        remedies={
            "weights": shard,
            "gradients": shard,
            "optimizer": shard,
            "activations": _fewer_activations(sizes, "sft.micro_batch", rows),
        },
    )
    phases = {"update": items.update(sizes, training, processes, gpu)}
    if sharded:
        phases["start"] = (Item("weights before they are sharded", items.all_weights(sizes)),)
    return StageMemory(stage="sft", resident=items.weights_and_optimizer(sizes, training, gpu), phases=phases)


def _samples(
    settings: Mapping[str, Any], config: Mapping[str, Any], sizes: ModelSizes, processes: int, gpu: bool
) -> StageMemory:
    evaluation = settings["evaluation"]
    rollout, batch = evaluation["rollout"], evaluation["batch_size"]
    chain, guided = rollout["max_chain_tokens"], rollout["guidance"] > 1
    fewer = _half("evaluation.batch_size", batch)
    phases = items.rollout(sizes, batch, chain, guided, gpu, fewer)
    return StageMemory(
        stage="samples",
        resident=(*items.to_draw(sizes, gpu), *items.without_model(gpu)),
        phases=phases,
    )


ESTIMATES = {
    "harness.trainers.dpo.train": _dpo,
    "harness.trainers.grpo.train": _grpo,
    "harness.trainers.sft.train": _sft,
    "harness.evaluation.draw.sample": _samples,
}


def _half(setting: str, value: int) -> str:
    """The advice to halve a setting, or nothing where it is 1 already."""
    return f"{setting}={value // 2} (is {value})" if value > 1 else ""


def _fewer_activations(sizes: ModelSizes, setting: str, rows: int) -> str:
    recompute = "" if sizes.recompute else "policies.recompute=true"
    return " or ".join(filter(None, [recompute, _half(setting, rows)]))


def misfit(memory: StageMemory, room_gb: float, place: str, processes: int = 1) -> str | None:
    """Why a stage does not fit and what to change, or None where it fits.

    Args:
        memory: of each process.
        room_gb: the memory of the place.
        place: such as `a GPU`.
        processes: how many share it.
    """
    needed = memory.peak * processes
    if needed <= room_gb * GB:
        return None
    return (
        f"the stage {memory.stage} needs about {gigabytes(needed)} of {place} ({memory.worst}), "
        f"which has {room_gb:.0f} GB. {memory.advice()}"
    )
