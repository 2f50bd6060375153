"""The sizes of a model that decide how much memory it needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ModelSizes:
    """Sizes of a model, known before it is loaded; `harness.study.memory` computes with them."""

    parameters: Mapping[str, int]
    """Part -> number of weights."""

    trained: tuple[str, ...]
    """Parts that training changes."""

    drawing: tuple[str, ...]
    """Parts that a rollout multiplies by."""

    drawn: tuple[str, ...]
    """Parts that a policy keeps which only draws (`PolicyRecipe.load_to_draw`)."""

    float32: tuple[str, ...]
    """Parts that are float32 whatever `weight_bytes` says."""

    cut: tuple[str, ...]
    """Parts whose layers `Policy.blocks` names."""

    linears: Mapping[str, tuple[int, int]]
    """Full name -> (inputs, outputs) of every linear layer among the trained ones."""

    layers: int
    """Decoder layers."""

    hidden: int
    """Width of the decoder."""

    intermediate: int
    """Width of the MLP."""

    heads: int
    """Query heads."""

    kv_heads: int
    """Key-value heads."""

    head_dim: int
    """Width of a head."""

    vocabulary: int
    """Text ids."""

    codes: int
    """Image ids."""

    image_tokens: int
    """Image ids per image."""

    weight_bytes: int
    """Bytes of a weight."""

    product_bytes: int | None
    """Bytes of a number in matrix products; None: 2 on GPUs and on CPUs with bfloat16 products, else 4."""

    recompute: bool
    """Whether activations are computed again in the backward pass."""

    logits: int
    """Number of logits that training makes at once."""

    decode_bytes: int
    """Peak of decoding one image."""

    decode_batch: int
    """Images decoded at once."""
