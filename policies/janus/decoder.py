"""Forward passes of the Llama decoder for rollouts: whole prompts at once, then one token per step.

Every rollout builds its decoder from transformers' modules with their weights at that time, laid out for
speed (`policies.janus.projections`). Attention and cache are ours. A row's rotary position counts its own
tokens only.

Shapes: R rows, T tokens, N tokens of all rows, S slots, H hidden, G key-value heads, Q query heads per
key-value head, D head width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from policies.janus.cache import KeyValues, RowGroup, WriteSlot, attend, mask
from policies.janus.projections import Projection

if TYPE_CHECKING:
    from transformers import LlamaModel
    from transformers.models.llama.modeling_llama import LlamaDecoderLayer

Attention = Callable[[int, int, Tensor, Tensor, Tensor], Tensor]  # layer, group of rows, q, k, v


@dataclass(frozen=True)
class _Layer:
    norm: nn.Module
    qkv: Projection
    out: Projection
    mlp_norm: nn.Module
    gate_up: Projection
    activation: nn.Module
    down: Projection


class Decoder:
    """A LlamaModel for sequences of at most `longest` tokens, with matrix products in `dtype`.

    On a CPU keys and values are always float32: their products are bound by memory, and oneDNN's bfloat16
    kernels are no faster at one query per row.
    """

    def __init__(self, language_model: LlamaModel, dtype: torch.dtype, longest: int) -> None:
        config, embedding = language_model.config, language_model.embed_tokens.weight
        self.dtype = dtype
        self._layers = [_layer(layer, dtype) for layer in language_model.layers]
        self._norm = language_model.norm
        self._kv_heads = config.num_key_value_heads
        self._queries = config.num_attention_heads // config.num_key_value_heads
        self._head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        cache_dtype = torch.float32 if embedding.device.type == "cpu" else dtype
        self._cache_like = embedding.new_empty(0, dtype=cache_dtype)
        positions_1S = torch.arange(longest, device=embedding.device)[None]
        cos_1SD, sin_1SD = language_model.rotary_emb(embedding, positions_1S)
        half = self._head_dim // 2
        self._cos_SD, self._sin_SD = cos_1SD[0], torch.cat((-sin_1SD[0, :, :half], sin_1SD[0, :, half:]), -1)

    def tail(self, rows: int, slots: int) -> KeyValues:
        """An empty cache for `slots` tokens of every row."""
        shape = (self._kv_heads * rows, slots, self._head_dim)
        return KeyValues.empty(len(self._layers), shape, self._cache_like)

    def prefill(self, embeds_RTH: Tensor) -> tuple[Tensor, KeyValues]:
        """Causal pass over right-padded rows from position 0: real tokens never see the padding after them.

        Returns:
            Hidden states [R, T, H] after the final norm, and the keys and values of all T slots.
        """
        rows, length, _ = embeds_RTH.shape
        later_TT = torch.ones(length, length, dtype=torch.bool, device=embeds_RTH.device).triu(1)
        causal = mask(later_TT.repeat(self._queries, 1)).squeeze(1)
        key_values: list[tuple[Tensor, Tensor]] = []

        def causal_attention(_: int, __: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            key_values.append((k, v))
            return attend(q, key_values[-1:], [causal], rows, self.dtype)

        positions_N = torch.arange(length, device=embeds_RTH.device).repeat(rows)
        hidden_NH = self._run(embeds_RTH.flatten(0, 1), positions_N, [rows], causal_attention)
        keys, values = zip(*key_values, strict=True)
        return hidden_NH.view(embeds_RTH.shape), KeyValues(keys, values)

    def step(
        self, embeds_RH: Tensor, positions_R: Tensor, groups: Sequence[RowGroup], slot: WriteSlot
    ) -> Tensor:
        """[R, H] after the final norm for one new token of every row; the groups' rows follow one another."""

        def cached_attention(layer: int, group: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return groups[group].attend(layer, q, k, v, slot, self.dtype)

        return self._run(embeds_RH, positions_R, [group.rows for group in groups], cached_attention)

    def _run(
        self, hidden_NH: Tensor, positions_N: Tensor, group_rows: Sequence[int], attention: Attention
    ) -> Tensor:
        """All layers and the final norm over N tokens, equally many per row.

        The rows form groups that attend separately; `group_rows` are their sizes.
        """
        cos_N1D, sin_N1D = self._cos_SD[positions_N, None], self._sin_SD[positions_N, None]
        group_tokens = [rows * len(hidden_NH) // sum(group_rows) for rows in group_rows]
        heads, kv_heads = self._kv_heads * self._queries, self._kv_heads
        for index, layer in enumerate(self._layers):
            qkv = layer.qkv(layer.norm(hidden_NH)).unflatten(-1, (-1, self._head_dim))
            q, k = _rotate(qkv[:, : heads + kv_heads], cos_N1D, sin_N1D).split([heads, kv_heads], 1)
            q_groups = (q * self._head_dim**-0.5).to(self.dtype).split(group_tokens)
            k_groups = k.to(self.dtype).split(group_tokens)
            v_groups = qkv[:, heads + kv_heads :].split(group_tokens)
            mixed = []
            for group, rows in enumerate(group_rows):
                q, k, v = (
                    self._by_head(x, rows) for x in (q_groups[group], k_groups[group], v_groups[group])
                )
                mixed.append(self._by_row(attention(index, group, q, k, v), rows))
            hidden_NH = hidden_NH + layer.out(torch.cat(mixed) if len(mixed) > 1 else mixed[0])
            gate, up = layer.gate_up(layer.mlp_norm(hidden_NH)).chunk(2, dim=-1)
            hidden_NH = hidden_NH + layer.down(layer.activation(gate) * up)
        return self._norm(hidden_NH)

    def _by_head(self, x: Tensor, rows: int) -> Tensor:
        """[R * T, heads, D] to [G * R, heads / G * T, D], the layout of the cache."""
        split = x.view(rows, -1, self._kv_heads, x.shape[1] // self._kv_heads, self._head_dim)
        by_head = split.permute(2, 0, 3, 1, 4).reshape(self._kv_heads * rows, -1, self._head_dim)
        return by_head.to(self._cache_like.dtype)

    def _by_row(self, mixed: Tensor, rows: int) -> Tensor:
        """[G * R, Q * T, D] back to [R * T, G * Q * D]."""
        split = mixed.view(self._kv_heads, rows, self._queries, -1, self._head_dim)
        return split.permute(1, 3, 0, 2, 4).reshape(rows * split.shape[3], -1)


def _layer(layer: LlamaDecoderLayer, dtype: torch.dtype) -> _Layer:
    attention, mlp = layer.self_attn, layer.mlp
    return _Layer(
        norm=layer.input_layernorm,
        qkv=Projection([attention.q_proj, attention.k_proj, attention.v_proj], dtype),
        out=Projection([attention.o_proj], dtype),
        mlp_norm=layer.post_attention_layernorm,
        gate_up=Projection([mlp.gate_proj, mlp.up_proj], dtype),
        activation=mlp.act_fn,
        down=Projection([mlp.down_proj], dtype),
    )


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions; the first half of `sin` is negated."""
    first, second = x.chunk(2, dim=-1)
    return torch.addcmul(x * cos, torch.cat((second, first), dim=-1), sin)
