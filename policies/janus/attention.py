"""The attention of training: our own layers on CPUs, the fused kernel in transformers' layers elsewhere.

The fused kernel never stores the [B, G, T, T] weights. Its rounding is the rollout engine's: queries are
scaled before the product, which decides their rounding in bfloat16.

Shapes: B rows, T tokens, G query heads, K key-value heads, D head width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask

from policies.janus import layers
from policies.janus.packing import Layout, Tree

if TYPE_CHECKING:
    from transformers import LlamaModel

FUSED = "janus_fused"


def use(language_model: LlamaModel, device: torch.device) -> None:
    """Sets the attention of training in the layers of `language_model`, and in no other tower."""
    if not is_fused(device):
        layers.use(language_model)
        return
    AttentionInterface.register(FUSED, _fused)
    AttentionMaskInterface.register(FUSED, eager_mask)
    language_model.set_attn_implementation(FUSED)


def is_fused(device: torch.device) -> bool:
    """Whether the fused kernel is used: not on CPUs, where plain products train faster."""
    return device.type != "cpu"


def arguments(language_model: LlamaModel, layout: Layout | Tree, like: Tensor) -> dict[str, Any]:
    """The arguments of every layer beside its input, `like`."""
    if isinstance(layout, Tree):
        return {"rows": layers.Rows(layout, language_model, like)}
    return {
        "attention_mask": _mask(layout, like),
        "position_embeddings": language_model.rotary_emb(like, layout.positions(like.device)),
    }


def _mask(layout: Layout, like: Tensor) -> Tensor | None:
    """0 where a key is visible. None: the rows are causal, nothing else."""
    if not layout.packed:
        return None
    allowed = layout.allowed(like.device)
    blocked = torch.finfo(like.dtype).min / 4  # finite, as the engine's
    return like.new_zeros(allowed.shape).masked_fill_(~allowed, blocked)


def _fused(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float,
    **_: Any,
) -> tuple[Tensor, None]:
    groups = query.shape[1] // key.shape[1]
    if groups > 1:  # not every kernel that takes a mask repeats heads itself
        key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    causal = attention_mask is None
    out = scaled_dot_product_attention(
        query * scaling, key, value, attn_mask=attention_mask, is_causal=causal, scale=1.0
    )
    return out.transpose(1, 2).contiguous(), None
