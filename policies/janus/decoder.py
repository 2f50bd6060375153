"""Forward passes of the Llama decoder for rollouts: whole prompts at once, then one token per step.

A decoder is built from transformers' modules with their weights at that time, laid out for
speed (`policies.janus.projections`). Attention and cache are ours. A row's rotary position counts its own
tokens only.

Shapes: R rows, T tokens, N tokens of all rows, S slots, H hidden, G key-value heads, D head width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from transformers.activations import SiLUActivation

from policies.janus import compiled
from policies.janus.batch_attention import Heads, attend, mask
from policies.janus.cache import KeyValues
from policies.janus.projections import Projection

if TYPE_CHECKING:
    from transformers import LlamaModel
    from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaRMSNorm

# layer, projected queries, keys and values of N tokens, cosines and sines of their positions
Attention = Callable[[int, Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class _Norm:
    """LlamaRMSNorm; on a CPU compiled, and then its result has the number format of the products."""

    module: LlamaRMSNorm
    dtype: torch.dtype

    def __call__(self, x_NH: Tensor) -> Tensor:
        if x_NH.is_cuda:
            return self.module(x_NH)
        return compiled.normalize(x_NH, self.module.weight, self.module.variance_epsilon, self.dtype)


@dataclass(frozen=True)
class _Layer:
    norm: _Norm
    qkv: Projection
    out: Projection
    mlp_norm: _Norm
    gate_up: Projection
    activation: nn.Module
    down: Projection

    def gate(self, gate_up_NI: Tensor) -> Tensor:
        """[N, I] activation(gate) * up; compiled on a CPU if the activation is Llama's own."""
        if isinstance(self.activation, SiLUActivation) and not gate_up_NI.is_cuda:
            return compiled.gate(gate_up_NI)
        gate, up = gate_up_NI.chunk(2, dim=-1)
        return self.activation(gate) * up


class Decoder:
    """A LlamaModel for sequences of at most `longest` tokens, with matrix products in `dtype`."""

    def __init__(self, language_model: LlamaModel, dtype: torch.dtype, longest: int) -> None:
        config, embedding = language_model.config, language_model.embed_tokens.weight
        self.heads = Heads(
            kv_heads=config.num_key_value_heads,
            queries=config.num_attention_heads // config.num_key_value_heads,
            width=getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads,
            dtype=dtype,
        )
        self._layers = [_layer(layer, dtype) for layer in language_model.layers]
        self._norm = _Norm(language_model.norm, dtype)
        self._cache_like = embedding.new_empty(0, dtype=dtype)
        positions_1S = torch.arange(longest, device=embedding.device)[None]
        like = embedding[:0].float() if embedding.device.type == "cpu" else embedding[:0]  # as in training
        cos_1SD, sin_1SD = language_model.rotary_emb(like, positions_1S)
        half = self.heads.width // 2
        self._cos_SD = cos_1SD[0]
        self._sin_SD = torch.cat((-sin_1SD[0, :, :half], sin_1SD[0, :, half:]), -1)

    def tail(self, rows: int, slots: int) -> KeyValues:
        """An empty cache for `slots` tokens of every row."""
        shape = (self.heads.kv_heads * rows, slots, self.heads.width)
        return KeyValues.empty(len(self._layers), shape, self._cache_like)

    def prefill(self, embeds_RTH: Tensor) -> tuple[Tensor, KeyValues]:
        """Causal pass over right-padded rows from position 0: real tokens never see the padding after them.

        Returns:
            Hidden states [R, T, H] after the final norm, and the keys and values of all T slots.
        """
        rows, length, _ = embeds_RTH.shape
        later_TT = torch.ones(length, length, dtype=torch.bool, device=embeds_RTH.device).triu(1)
        causal = mask(later_TT.repeat(self.heads.queries, 1)).squeeze(1)
        key_values: list[tuple[Tensor, Tensor]] = []

        def causal_attention(_: int, qkv: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
            q, k, v = self.heads.split(qkv, cos, sin, rows)
            key_values.append((k, v))
            return self.heads.join(attend(q, key_values[-1:], [causal], rows, self.heads.dtype), rows)

        positions_N = torch.arange(length, device=embeds_RTH.device).repeat(rows)
        hidden_NH = self.step(embeds_RTH.flatten(0, 1), positions_N, causal_attention)
        keys, values = zip(*key_values, strict=True)
        return hidden_NH.view(embeds_RTH.shape), KeyValues(keys, values)

    def step(self, hidden_NH: Tensor, positions_N: Tensor, attention: Attention) -> Tensor:
        """[N, H] after all layers and the final norm for N embedded tokens at their positions."""
        cos_ND, sin_ND = self._cos_SD[positions_N], self._sin_SD[positions_N]
        for index, layer in enumerate(self._layers):
            mixed = attention(index, layer.qkv(layer.norm(hidden_NH)), cos_ND, sin_ND)
            hidden_NH = hidden_NH + layer.out(mixed)
            hidden_NH = hidden_NH + layer.down(layer.gate(layer.gate_up(layer.mlp_norm(hidden_NH))))
        return self._norm(hidden_NH)


def _layer(layer: LlamaDecoderLayer, dtype: torch.dtype) -> _Layer:
    attention, mlp = layer.self_attn, layer.mlp
    return _Layer(
        norm=_Norm(layer.input_layernorm, dtype),
        qkv=Projection([attention.q_proj, attention.k_proj, attention.v_proj], dtype),
        out=Projection([attention.o_proj], dtype),
        mlp_norm=_Norm(layer.post_attention_layernorm, dtype),
        gate_up=Projection([mlp.gate_proj, mlp.up_proj], dtype),
        activation=mlp.act_fn,
        down=Projection([mlp.down_proj], dtype),
    )
