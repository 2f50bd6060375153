"""What a stage needs of a GPU's memory, estimated part by part from the sizes of the model; without torch.

The formulas (bytes; letters below) count what the code allocates, for the longest samples the settings allow:

    weights            parameters x weight_bytes; the frozen start once more where all weights are trained
    gradients          trained parameters x their bytes; adapters and their optimizer are float32
    optimizer          twice that (AdamW)
    casts              products in a smaller format than the weights hold copies of them until the backward pass
    activations        a layer keeps for each token 16 H (residual and norms, float32), the inputs of its linear layers,
                       q k v and the mixed values (2 Q + Q + 2 K), 4 I in the MLP, and without a fused kernel T x heads
                       attention weights; with recompute only its input. One layer more for what the backward pass has at once.
    logits             `ModelSizes.logits` of them at a time, 16 bytes each with their gradient
    keys and values    samples x (chain + image tokens, twice with guidance) x 2 x layers x K
    image decoding     `decode_bytes` for each image of a batch

H hidden width, I width of the MLP, Q and K widths of all query and key-value heads, T tokens of a row.
Not counted: fragmentation, judges and other experts that run in the same process.
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
PROMPT_TOKENS = 64  # with the template around it; a guess, and a small part
BUCKET_BYTES = 2**28  # harness.trainers.learner adds up so much at a time
CUDA_BYTES = GB  # an allowance for the CUDA context, workspaces and recorded graphs; not measured
LOGIT_BYTES = 16
NAMED = 4  # parts in an advice


@dataclass(frozen=True, kw_only=True)
class Part:
    """Something that takes memory; `remedy` is the setting that makes it smaller, if one does."""

    name: str
    bytes: float
    remedy: str | None = None


@dataclass(frozen=True, kw_only=True)
class StageMemory:
    """What each process of a stage holds all the time, and in addition in each of its phases, one after the other."""

    stage: str
    resident: tuple[Part, ...]
    phases: Mapping[str, tuple[Part, ...]]

    @property
    def worst(self) -> str:
        """The phase that needs most."""
        return max(self.phases, key=lambda name: sum(part.bytes for part in self.phases[name]))

    @property
    def peak(self) -> float:
        return sum(part.bytes for part in (*self.resident, *self.phases[self.worst]))

    def advice(self) -> str:
        """The largest parts at the peak, each with the setting that makes it smaller."""
        parts = sorted((*self.resident, *self.phases[self.worst]), key=lambda part: -part.bytes)
        return "Largest: " + "; ".join(
            f"{part.name} {gigabytes(part.bytes)}" + (f" (set {part.remedy})" if part.remedy else "")
            for part in parts[:NAMED]
        )


def gigabytes(count: float) -> str:
    return f"{count / GB:.1f} GB" if count >= GB / 10 else f"{count / 2**20:.1f} MB"


@dataclass(frozen=True, kw_only=True)
class Training:
    """What the update of a stage works on; `rows` are those of one forward pass, guided rows counted twice."""

    rows: int
    tokens: int
    chain: int
    adapters: int | None  # their parameters; None where the weights themselves are trained
    cut_among: int  # processes that FSDP cuts layers among
    remedies: Mapping[str, str]


def estimate(
    stage: Stage, config: Mapping[str, Any], store: StageStore, *, processes: int, gpu: bool
) -> StageMemory | None:
    """The memory of one process of a stage; None for a stage or a policy that nothing is known of.

    Args:
        stage: of a planned cell.
        config: the resolved settings of that cell.
        store: where the starting checkpoint may lie already, whose sizes are then read.
        processes: that train together.
        gpu: whether it runs on one; on a CPU the same with its number formats.
    """
    reckoned = PROGRAMS.get(stage.program)
    sizes = _sizes(stage, store) if reckoned else None
    return reckoned(stage.settings, config, sizes, processes, gpu) if reckoned and sizes else None


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
    grpo, rollout = settings["grpo"], settings["rollout"]
    chain, guided = rollout["max_chain_tokens"], rollout["guidance"] > 1
    drawn = grpo["prompts"] * grpo["samples"] // processes
    drawn = min(drawn, grpo["rollout_batch"] or drawn)
    micro = min(grpo["micro_batch"], grpo["prompts"] * grpo["samples"] // processes)
    fewer = [f"grpo.micro_batch={micro // 2} (is {micro})"] if micro > 1 else []
    lora = None if grpo["lora"] else "grpo.lora={rank: 32, alpha: 32, targets: ...}"
    half = ["policies.weights=bfloat16"] if grpo["lora"] and sizes.weight_bytes > 2 else []
    remedies = {
        "weights": " or ".join(half) or lora or "",
        "reference": lora or "",
        "gradients": lora or "",
        "optimizer": lora or "",
        "casts": " or ".join(half),
        "activations": " or ".join([*([] if sizes.recompute else ["policies.recompute=true"]), *fewer]),
        "keys and values": f"grpo.rollout_batch={drawn // 2} (is {drawn})" if drawn > 1 else "",
    }
    training = Training(
        rows=micro * (2 if guided and grpo["image_logprobs"] == "guided" else 1),
        tokens=PROMPT_TOKENS + chain + sizes.image_tokens,
        chain=chain,
        adapters=_adapters(sizes, grpo["lora"]) if grpo["lora"] else None,
        cut_among=1,
        remedies=remedies,
    )
    reference = (
        []
        if grpo["lora"]
        else [Part(name="reference", bytes=_all(sizes), remedy=remedies["reference"] or None)]
    )
    resident = (*_held(sizes, training, gpu), *reference)
    phases = {
        **_drawing(sizes, drawn, chain, guided, bool(grpo["lora"]), gpu, remedies),
        "update": _update(sizes, training, processes, gpu),
    }
    return StageMemory(stage="grpo", resident=resident, phases=phases)


def _sft(
    settings: Mapping[str, Any], config: Mapping[str, Any], sizes: ModelSizes, processes: int, gpu: bool
) -> StageMemory:
    sft, chain = settings["sft"], config["rollout"]["max_chain_tokens"]
    share = sft["batch_size"] // processes
    rows = min(sft["micro_batch"] or share, share)
    cut = "" if sft["fsdp"] and processes > 1 else "sft.fsdp=true with several resources.processes"
    fewer = [f"sft.micro_batch={rows // 2} (is {rows})"] if rows > 1 else []
    training = Training(
        rows=rows,
        tokens=PROMPT_TOKENS + chain + sizes.image_tokens,
        chain=chain,
        adapters=None,
        cut_among=processes if sft["fsdp"] else 1,
        remedies={
            **dict.fromkeys(("weights", "gradients", "optimizer"), cut),
            "activations": " or ".join([*([] if sizes.recompute else ["policies.recompute=true"]), *fewer]),
        },
    )
    phases = {"update": _update(sizes, training, processes, gpu)}
    if training.cut_among > 1:
        phases["start"] = (Part(name="weights before they are cut", bytes=_all(sizes)),)
    return StageMemory(stage="sft", resident=_held(sizes, training, gpu), phases=phases)


def _samples(
    settings: Mapping[str, Any], config: Mapping[str, Any], sizes: ModelSizes, processes: int, gpu: bool
) -> StageMemory:
    evaluation = settings["evaluation"]
    rollout, batch = evaluation["rollout"], evaluation["batch_size"]
    remedies = {"keys and values": f"evaluation.batch_size={batch // 2} (is {batch})"} if batch > 1 else {}
    weights = Part(
        name="weights",
        bytes=_all(sizes),
        remedy="policies.weights=bfloat16" if sizes.weight_bytes > 2 else None,
    )
    phases = _drawing(
        sizes, batch, rollout["max_chain_tokens"], rollout["guidance"] > 1, False, gpu, remedies
    )
    return StageMemory(stage="samples", resident=(weights, *_cuda(gpu)), phases=phases)


PROGRAMS = {
    "harness.trainers.grpo.train": _grpo,
    "harness.trainers.sft.train": _sft,
    "harness.evaluation.draw.sample": _samples,
}


def _all(sizes: ModelSizes) -> float:
    return sum(sizes.parameters.values()) * sizes.weight_bytes


def _count(sizes: ModelSizes, parts: tuple[str, ...]) -> int:
    return sum(sizes.parameters[name] for name in parts)


def _product(sizes: ModelSizes, gpu: bool) -> int:
    return sizes.product_bytes or (2 if gpu else 4)


def _cuda(gpu: bool) -> tuple[Part, ...]:
    return (Part(name="CUDA itself", bytes=CUDA_BYTES),) if gpu else ()


def _adapters(sizes: ModelSizes, lora: Mapping[str, Any]) -> int:
    """Parameters of the adapters: rank x (inputs + outputs) for every layer whose name matches."""
    return sum(
        lora["rank"] * sum(shape)
        for name, shape in sizes.linears.items()
        if re.fullmatch(lora["targets"], name)
    )


def _held(sizes: ModelSizes, training: Training, gpu: bool) -> tuple[Part, ...]:
    """Weights and optimizer state."""
    held = _all(sizes) - _elsewhere(sizes, training) * sizes.weight_bytes
    parts = [Part(name="weights", bytes=held, remedy=training.remedies["weights"] or None)]
    if training.adapters is not None:
        parts.append(Part(name="adapters", bytes=training.adapters * 4))
    optimizer = Part(
        name="optimizer", bytes=2 * _gradients(sizes, training), remedy=training.remedies["optimizer"] or None
    )
    return (*parts, optimizer, *_cuda(gpu))


def _elsewhere(sizes: ModelSizes, training: Training) -> float:
    """Parameters of cut layers that other processes hold."""
    return (1 - 1 / training.cut_among) * _count(sizes, sizes.cut)


def _gradients(sizes: ModelSizes, training: Training) -> float:
    if training.adapters is not None:
        return training.adapters * 4
    return (_count(sizes, sizes.trained) - _elsewhere(sizes, training)) * sizes.weight_bytes


def _update(sizes: ModelSizes, training: Training, processes: int, gpu: bool) -> tuple[Part, ...]:
    """Forward and backward pass of one micro-batch, with the gradients that gather meanwhile."""
    product = _product(sizes, gpu)
    one_layer = _count(sizes, sizes.cut) / sizes.layers
    gradients = _gradients(sizes, training)
    parts = [
        Part(name="gradients", bytes=gradients, remedy=training.remedies["gradients"] or None),
        Part(
            name="activations",
            bytes=_activations(sizes, training, product, gpu),
            remedy=training.remedies["activations"] or None,
        ),
        Part(name="logits", bytes=_logits(sizes, training)),
    ]
    if product < sizes.weight_bytes:
        only_one = training.adapters is not None and sizes.recompute
        copied = one_layer if only_one else _count(sizes, sizes.drawing)
        parts.append(
            Part(name="casts", bytes=copied * product, remedy=training.remedies.get("casts") or None)
        )
    if training.cut_among > 1:
        parts.append(Part(name="layers put together", bytes=2 * one_layer * sizes.weight_bytes))
    if processes > 1:
        parts.append(Part(name="adding up gradients", bytes=2 * min(BUCKET_BYTES, gradients)))
    return tuple(parts)


def _activations(sizes: ModelSizes, training: Training, product: int, gpu: bool) -> float:
    tokens = training.rows * training.tokens
    queries, keys = sizes.heads * sizes.head_dim, sizes.kv_heads * sizes.head_dim
    inputs = (
        2 * 4 * sizes.hidden if product == 4 else 5 * product * sizes.hidden
    )  # each product casts its own
    weights = 0 if gpu else 4 * sizes.heads * training.tokens
    layer = 16 * sizes.hidden + inputs + product * (3 * queries + 2 * keys + 4 * sizes.intermediate) + weights
    kept = 4 * sizes.hidden if sizes.recompute else layer
    around = 6 * 4 * sizes.hidden  # embeddings, the final norm, the states that the heads read
    return tokens * (sizes.layers * kept + layer + around)


def _logits(sizes: ModelSizes, training: Training) -> float:
    """Where one head's logits are all made at once they are kept until the backward pass, else made again there."""
    heads = (
        training.rows * training.chain * sizes.vocabulary,
        training.rows * sizes.image_tokens * sizes.codes,
    )
    kept = sum(count for count in heads if count <= sizes.logits)
    return LOGIT_BYTES * (kept + (sizes.logits if max(heads) > sizes.logits else 0))


def _drawing(
    sizes: ModelSizes,
    batch: int,
    chain: int,
    guided: bool,
    adapted: bool,
    gpu: bool,
    remedies: Mapping[str, str],
) -> dict[str, tuple[Part, ...]]:
    """The phases of a rollout of `batch` samples: tokens, then images."""
    product = _product(sizes, gpu)
    laid_out = adapted or not gpu or product != sizes.weight_bytes  # else the weights are used as they are
    kept = product if gpu else 4
    slots = PROMPT_TOKENS + chain + sizes.image_tokens * (2 if guided else 1)
    remedy = remedies.get("keys and values") or None
    tokens = [
        Part(
            name="keys and values",
            bytes=batch * slots * 2 * sizes.layers * sizes.kv_heads * sizes.head_dim * kept,
            remedy=remedy,
        ),
        Part(
            name="logits of a step",
            bytes=batch * max(sizes.vocabulary, sizes.codes) * (product + 3 * 8),
            remedy=remedy,
        ),
        Part(name="image table", bytes=sizes.codes * sizes.hidden * sizes.weight_bytes),
    ]
    if laid_out:
        halved = "policies.weights=bfloat16" if sizes.weight_bytes > product and not adapted else None
        tokens.append(
            Part(
                name="weights laid out for drawing",
                bytes=_count(sizes, sizes.drawing) * product,
                remedy=halved,
            )
        )
    return {
        "rollout": tuple(tokens),
        "image decoding": (Part(name="images", bytes=sizes.decode_bytes * min(batch, sizes.decode_batch)),),
    }


def misfit(memory: StageMemory, room_gb: float, place: str, processes: int = 1) -> str | None:
    """Why a stage cannot run where there is so much memory, and what to change; None where it may.

    Args:
        memory: of each process.
        room_gb: what there is.
        place: what has it, such as `a GPU`.
        processes: how many share it.
    """
    needed = memory.peak * processes
    if needed <= room_gb * GB:
        return None
    wanted = f"the stage {memory.stage} needs about {gigabytes(needed)} of {place} ({memory.worst}), which has {room_gb:.0f} GB"
    return f"{wanted}. {memory.advice()}"
