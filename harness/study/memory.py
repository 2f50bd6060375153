"""The memory that a stage needs, estimated item by item from the sizes of the model, without torch.

The formulas (in bytes) count what the code allocates for the longest samples that the settings allow:

    weights            parameters x weight_bytes; once more for the frozen start where all are trained
    gradients          trained parameters x their bytes; adapters and their optimizer are float32
    optimizer          twice the gradients (AdamW)
    casts              products in a smaller format than the weights: their copies until the backward pass
    activations        for each token and layer: 16 H (residual and norms, float32), the inputs of its
                       linear layers, q k v and the mixed values (2 Q + Q + 2 K), 4 I in the MLP, and without
                       a fused kernel T x heads attention weights; with recompute only the layer's input.
                       One layer more for what the backward pass holds at once.
    logits             `ModelSizes.logits` of them at a time, 16 bytes each with their gradient
    keys and values    samples x (chain + image tokens, twice with guidance) x 2 x layers x K
    image decoding     `decode_bytes` for each image of a batch

H is the hidden width, I the width of the MLP, Q and K the widths of all query and key-value heads, T the
tokens of a row. Not counted: fragmentation, and judges and other experts that run in the same process.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hydra.utils import get_object

from harness.composition.components import make
from harness.stages.store import StageStore
from harness.types import Stage

if TYPE_CHECKING:
    from harness.protocols import ModelSizes, PolicyRecipe

GB = 2**30
PROMPT_TOKENS = 64  # with the template around it; a guess, and a small item
BUCKET_BYTES = 2**28  # harness.trainers.learner adds up gradients of this size at a time
CUDA_BYTES = GB  # an allowance for the CUDA context, workspaces and recorded graphs; not measured
LOGIT_BYTES = 16
NAMED_ITEMS = 4  # in an advice


@dataclass(frozen=True)
class Item:
    """Something that takes memory; `remedy` is the setting that makes it smaller, or empty."""

    name: str
    bytes: float
    remedy: str = ""


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
        items = sorted((*self.resident, *self.phases[self.worst]), key=lambda item: -item.bytes)
        texts = []
        for item in items[:NAMED_ITEMS]:
            remedy = f" (set {item.remedy})" if item.remedy else ""
            texts.append(f"{item.name} {gigabytes(item.bytes)}{remedy}")
        return "Largest: " + "; ".join(texts)


def gigabytes(count: float) -> str:
    return f"{count / GB:.1f} GB" if count >= GB / 10 else f"{count / 2**20:.1f} MB"


@dataclass(frozen=True, kw_only=True)
class Training:
    """One forward and backward pass of a stage.

    `rows` are the rows of the pass, guided ones counted twice; `adapters` the parameters of the adapters,
    None where the weights themselves are trained; `shards` the processes among which FSDP shards the
    layers.
    """

    rows: int
    tokens: int
    chain: int
    adapters: int | None
    shards: int
    remedies: Mapping[str, str]


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
        adapters=_adapters(sizes, own["lora"]) if own["lora"] else None,
        shards=1,
        remedies={
            "weights": half or lora,
            "gradients": lora,
            "optimizer": lora,
            "casts": half,
            "activations": _fewer_activations(sizes, f"{stage}.micro_batch", micro_batch),
        },
    )
    resident = _weights_and_optimizer(sizes, training, gpu)
    if not own["lora"] and own.get("kl_weight", 1):
        resident = (*resident, Item("reference", _all_weights(sizes), lora))
    fewer = _half(f"{stage}.rollout_batch", drawn)
    phases = _rollout(sizes, drawn, chain, guided, bool(own["lora"]), gpu, fewer)
    phases["update"] = _update(sizes, training, processes, gpu)
    return StageMemory(stage=stage, resident=resident, phases=phases)


def _sft(
    settings: Mapping[str, Any], config: Mapping[str, Any], sizes: ModelSizes, processes: int, gpu: bool
) -> StageMemory:
    sft, chain = settings["sft"], config["rollout"]["max_chain_tokens"]
    share = sft["batch_size"] // processes
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
    phases = {"update": _update(sizes, training, processes, gpu)}
    if sharded:
        phases["start"] = (Item("weights before they are sharded", _all_weights(sizes)),)
    return StageMemory(stage="sft", resident=_weights_and_optimizer(sizes, training, gpu), phases=phases)


def _samples(
    settings: Mapping[str, Any], config: Mapping[str, Any], sizes: ModelSizes, processes: int, gpu: bool
) -> StageMemory:
    evaluation = settings["evaluation"]
    rollout, batch = evaluation["rollout"], evaluation["batch_size"]
    half = "policies.weights=bfloat16" if sizes.weight_bytes > 2 else ""
    resident = (Item("weights", _all_weights(sizes), half), *_cuda(gpu))
    chain, guided = rollout["max_chain_tokens"], rollout["guidance"] > 1
    fewer = _half("evaluation.batch_size", batch)
    phases = _rollout(sizes, batch, chain, guided, False, gpu, fewer)
    return StageMemory(stage="samples", resident=resident, phases=phases)


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


def _all_weights(sizes: ModelSizes) -> float:
    return sum(sizes.parameters.values()) * sizes.weight_bytes


def _count(sizes: ModelSizes, names: tuple[str, ...]) -> int:
    return sum(sizes.parameters[name] for name in names)


def _product_bytes(sizes: ModelSizes, gpu: bool) -> int:
    return sizes.product_bytes or (2 if gpu else 4)


def _cuda(gpu: bool) -> tuple[Item, ...]:
    return (Item("CUDA itself", CUDA_BYTES),) if gpu else ()


def _adapters(sizes: ModelSizes, lora: Mapping[str, Any]) -> int:
    """Parameters of the adapters: rank x (inputs + outputs) of every layer whose name matches."""
    shapes = [shape for name, shape in sizes.linears.items() if re.fullmatch(lora["targets"], name)]
    return sum(lora["rank"] * sum(shape) for shape in shapes)


def _weights_and_optimizer(sizes: ModelSizes, training: Training, gpu: bool) -> tuple[Item, ...]:
    weights = _all_weights(sizes) - _on_other_processes(sizes, training) * sizes.weight_bytes
    items = [Item("weights", weights, training.remedies["weights"])]
    if training.adapters is not None:
        items.append(Item("adapters", training.adapters * 4))
    items.append(Item("optimizer", 2 * _gradients(sizes, training), training.remedies["optimizer"]))
    return (*items, *_cuda(gpu))


def _on_other_processes(sizes: ModelSizes, training: Training) -> float:
    """Parameters of sharded layers that other processes hold."""
    return (1 - 1 / training.shards) * _count(sizes, sizes.cut)


def _gradients(sizes: ModelSizes, training: Training) -> float:
    if training.adapters is not None:
        return training.adapters * 4
    trained = _count(sizes, sizes.trained) - _on_other_processes(sizes, training)
    return trained * sizes.weight_bytes


def _update(sizes: ModelSizes, training: Training, processes: int, gpu: bool) -> tuple[Item, ...]:
    """Forward and backward pass of one micro-batch, with the gradients that add up meanwhile."""
    product_bytes = _product_bytes(sizes, gpu)
    one_layer = _count(sizes, sizes.cut) / sizes.layers
    gradients = _gradients(sizes, training)
    activations = _activations(sizes, training, product_bytes, gpu)
    items = [
        Item("gradients", gradients, training.remedies["gradients"]),
        Item("activations", activations, training.remedies["activations"]),
        Item("logits", _logits(sizes, training)),
    ]
    if product_bytes < sizes.weight_bytes:
        layer_by_layer = training.adapters is not None and sizes.recompute
        copied = one_layer if layer_by_layer else _count(sizes, sizes.drawing)
        items.append(Item("casts", copied * product_bytes, training.remedies.get("casts", "")))
    if training.shards > 1:
        items.append(Item("layers gathered", 2 * one_layer * sizes.weight_bytes))
    if processes > 1:
        items.append(Item("adding up gradients", 2 * min(BUCKET_BYTES, gradients)))
    return tuple(items)


def _activations(sizes: ModelSizes, training: Training, product_bytes: int, gpu: bool) -> float:
    tokens = training.rows * training.tokens
    queries, keys = sizes.heads * sizes.head_dim, sizes.kv_heads * sizes.head_dim
    # in a smaller format, each product casts its own input
    inputs = 2 * 4 * sizes.hidden if product_bytes == 4 else 5 * product_bytes * sizes.hidden
    attention = 0 if gpu else 4 * sizes.heads * training.tokens
    products = product_bytes * (3 * queries + 2 * keys + 4 * sizes.intermediate)
    layer = 16 * sizes.hidden + inputs + products + attention
    kept = 4 * sizes.hidden if sizes.recompute else layer
    outside = 6 * 4 * sizes.hidden  # embeddings, the final norm, the states that the heads read
    return tokens * (sizes.layers * kept + layer + outside)


def _logits(sizes: ModelSizes, training: Training) -> float:
    """Logits that fit into one piece are kept until the backward pass; others are recomputed in pieces."""
    text = training.rows * training.chain * sizes.vocabulary
    image = training.rows * sizes.image_tokens * sizes.codes
    kept = sum(count for count in (text, image) if count <= sizes.logits)
    piece = sizes.logits if max(text, image) > sizes.logits else 0
    return LOGIT_BYTES * (kept + piece)


def _rollout(
    sizes: ModelSizes, batch: int, chain: int, guided: bool, adapted: bool, gpu: bool, remedy: str
) -> dict[str, tuple[Item, ...]]:
    """The phases of a rollout of `batch` samples: tokens, then images."""
    product_bytes = _product_bytes(sizes, gpu)
    cache_bytes = product_bytes if gpu else 4
    slots = PROMPT_TOKENS + chain + sizes.image_tokens * (2 if guided else 1)
    keys_and_values = batch * slots * 2 * sizes.layers * sizes.kv_heads * sizes.head_dim * cache_bytes
    logits = batch * max(sizes.vocabulary, sizes.codes) * (product_bytes + 3 * 8)
    items = [
        Item("keys and values", keys_and_values, remedy),
        Item("logits of a step", logits, remedy),
        Item("image table", sizes.codes * sizes.hidden * sizes.weight_bytes),
    ]
    # else the weights are used as they are
    copied = adapted or not gpu or product_bytes != sizes.weight_bytes
    if copied:
        half = "policies.weights=bfloat16" if sizes.weight_bytes > product_bytes and not adapted else ""
        items.append(Item("weights laid out for drawing", _count(sizes, sizes.drawing) * product_bytes, half))
    images = Item("images", sizes.decode_bytes * min(batch, sizes.decode_batch))
    return {"rollout": tuple(items), "image decoding": (images,)}


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
