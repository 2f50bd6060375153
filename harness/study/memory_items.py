"""The items of memory that a stage holds, from the sizes of the model, without torch.

The formulas (in bytes) count what the code allocates for the longest samples that the settings allow:

    Python             what a process without a model takes (on a CPU)
    weights            parameters x weight_bytes, the image tokenizer's x 4; once more for the frozen start
                       where all are trained. Drawing alone keeps embeddings and image decoder, and the layers
                       only as they are laid out for its products
    gradients          trained parameters x their bytes; adapters and their optimizer are float32
    optimizer          twice the gradients (AdamW)
    casts              products in a smaller format than the weights: their copies until the backward pass
    activations        for each token and layer. On a GPU 16 H (residual and norms, float32), the inputs of
                       its linear layers, q k v and the mixed values (2 Q + Q + 2 K), 4 I in the MLP. On a CPU
                       8 H (residual), 2 H inputs, 2 Q + 2 K, 3 I, and T x heads attention weights. With
                       recompute only the layer's input. One layer more for what the backward pass holds at
                       once. Tokens that share their past count as if they did not.
    logits             `ModelSizes.logits` of them at a time, 16 bytes each with their gradient
    keys and values    samples x (chain + image tokens, twice with guidance) x 2 x layers x K
    image decoding     `decode_bytes` for each image of a batch

H is the hidden width, I the width of the MLP, Q and K the widths of all query and key-value heads, T the
tokens of a row. Not counted: fragmentation, and judges and other experts that run in the same process.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.stages import provenance

if TYPE_CHECKING:
    from harness.protocols import ModelSizes

GB = 2**30
PROMPT_TOKENS = 64  # with the template around it; a guess, and a small item
BUCKET_BYTES = 2**28  # harness.trainers.learner adds up gradients of this size at a time
PYTHON_BYTES = 0.5 * GB  # of a process with torch and transformers; measured on Linux
CUDA_BYTES = GB  # an allowance for the CUDA context, workspaces and recorded graphs; not measured
LOGIT_BYTES = 16
# flags of CPUs that multiply bfloat16 natively (`policies.precision=auto`), and of those with kernels for it
NATIVE_BFLOAT16 = frozenset({"avx512_bf16", "amx_bf16"})
BFLOAT16_KERNELS = frozenset({"avx512bw", "avx_ne_convert"})


@dataclass(frozen=True)
class Item:
    """Something that takes memory; `remedy` is the setting that makes it smaller, or empty."""

    name: str
    bytes: float
    remedy: str = ""


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


def all_weights(sizes: ModelSizes) -> float:
    return _bytes(sizes, tuple(sizes.parameters))


def _bytes(sizes: ModelSizes, names: Collection[str]) -> float:
    """Of these parts, as they are loaded; those of the image tokenizer are always float32."""
    return sum(
        sizes.parameters[name] * (4 if name in sizes.float32 else sizes.weight_bytes) for name in names
    )


def _count(sizes: ModelSizes, names: tuple[str, ...]) -> int:
    return sum(sizes.parameters[name] for name in names)


def _product_bytes(sizes: ModelSizes, gpu: bool) -> int:
    return sizes.product_bytes or (2 if gpu or NATIVE_BFLOAT16 & provenance.cpu_flags() else 4)


def without_model(gpu: bool) -> tuple[Item, ...]:
    return (Item("CUDA itself", CUDA_BYTES) if gpu else Item("Python", PYTHON_BYTES),)


def to_draw(sizes: ModelSizes, gpu: bool) -> tuple[Item, ...]:
    """What a policy keeps that only draws."""
    kept = [name for name in sizes.drawn if name not in sizes.drawing]
    half = "policies.weights=bfloat16" if sizes.weight_bytes > 2 else ""
    return (Item("weights as they are", _bytes(sizes, kept), half), *laid_out(sizes, True, gpu))


def laid_out(sizes: ModelSizes, copied: bool, gpu: bool) -> tuple[Item, ...]:
    """The weights of a rollout. Without a copy it uses the plain ones where their format is its own."""
    product_bytes = _product_bytes(sizes, gpu)
    items = [Item("image table", sizes.codes * sizes.hidden * sizes.weight_bytes)]
    if copied or not gpu or product_bytes != sizes.weight_bytes:
        half = "policies.weights=bfloat16" if sizes.weight_bytes > product_bytes else ""
        # a CPU without products of this format multiplies rounded weights in float32
        kept_bytes = product_bytes if gpu or BFLOAT16_KERNELS & provenance.cpu_flags() else 4
        items.append(Item("weights laid out for drawing", _count(sizes, sizes.drawing) * kept_bytes, half))
    return tuple(items)


def adapters(sizes: ModelSizes, lora: Mapping[str, Any]) -> int:
    """Parameters of the adapters: rank x (inputs + outputs) of every layer whose name matches."""
    shapes = [shape for name, shape in sizes.linears.items() if re.fullmatch(lora["targets"], name)]
    return sum(lora["rank"] * sum(shape) for shape in shapes)


def weights_and_optimizer(sizes: ModelSizes, training: Training, gpu: bool) -> tuple[Item, ...]:
    weights = all_weights(sizes) - _on_other_processes(sizes, training) * sizes.weight_bytes
    items = [Item("weights", weights, training.remedies["weights"])]
    if training.adapters is not None:
        items.append(Item("adapters", training.adapters * 4))
    items.append(Item("optimizer", 2 * _gradients(sizes, training), training.remedies["optimizer"]))
    return (*items, *without_model(gpu))


def _on_other_processes(sizes: ModelSizes, training: Training) -> float:
    """Parameters of sharded layers that other processes hold."""
    return (1 - 1 / training.shards) * _count(sizes, sizes.cut)


def _gradients(sizes: ModelSizes, training: Training) -> float:
    if training.adapters is not None:
        return training.adapters * 4
    trained = _count(sizes, sizes.trained) - _on_other_processes(sizes, training)
    return trained * sizes.weight_bytes


def update(sizes: ModelSizes, training: Training, processes: int, gpu: bool) -> tuple[Item, ...]:
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
    if gpu:
        # in a smaller format, each product casts its own input
        inputs = 2 * 4 * sizes.hidden if product_bytes == 4 else 5 * product_bytes * sizes.hidden
        products = product_bytes * (3 * queries + 2 * keys + 4 * sizes.intermediate)
        layer = 16 * sizes.hidden + inputs + products
    else:
        inputs = 2 * product_bytes * sizes.hidden
        products = product_bytes * (2 * queries + 2 * keys + 3 * sizes.intermediate)
        attention = product_bytes * sizes.heads * training.tokens
        layer = 8 * sizes.hidden + inputs + products + attention
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


def rollout(
    sizes: ModelSizes, batch: int, chain: int, guided: bool, gpu: bool, remedy: str
) -> dict[str, tuple[Item, ...]]:
    """The phases of a rollout of `batch` samples, besides its weights: tokens, then images."""
    product_bytes = _product_bytes(sizes, gpu)
    slots = PROMPT_TOKENS + chain + sizes.image_tokens * (2 if guided else 1)
    keys_and_values = batch * slots * 2 * sizes.layers * sizes.kv_heads * sizes.head_dim * product_bytes
    logits = batch * max(sizes.vocabulary, sizes.codes) * (product_bytes + 3 * 8)
    items = (Item("keys and values", keys_and_values, remedy), Item("logits of a step", logits, remedy))
    images = Item("images", sizes.decode_bytes * min(batch, sizes.decode_batch))
    return {"rollout": items, "image decoding": (images,)}
