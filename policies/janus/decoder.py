"""Forward passes of the Llama decoder for rollouts: whole prompts at once, then one token a step.

Made anew for every rollout from transformers' modules: their weights as they are then, laid out for speed
(`policies.janus.projections`); attention and cache are ours. A row's rotary position counts its own tokens only.

Shapes: R rows, T tokens, N tokens of all rows, S slots, H hidden, G key-value heads, Q query heads per key-value head, D head width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from policies.janus.cache import Part, Slot, Stream, attend, mask
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
    """A LlamaModel for sequences of at most `longest` tokens; `dtype` is the number format of matrix products.

    On a CPU keys and values are float32 whatever `dtype` is: the products over them read memory and
    multiply little, and oneDNN's bfloat16 kernels are no faster at one query a row.
    """

    def __init__(self, language_model: LlamaModel, dtype: torch.dtype, longest: int) -> None:
        config, like = language_model.config, language_model.embed_tokens.weight
        self.dtype = dtype
        self._layers = [_layer(layer, dtype) for layer in language_model.layers]
        self._norm = language_model.norm
        self._kv_heads = config.num_key_value_heads
        self._queries = config.num_attention_heads // config.num_key_value_heads
        self._head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self._kept = like.new_empty(0, dtype=torch.float32 if like.device.type == "cpu" else dtype)
        cos_1SD, sin_1SD = language_model.rotary_emb(like, torch.arange(longest, device=like.device)[None])
        half = self._head_dim // 2
        self._cos_SD, self._sin_SD = cos_1SD[0], torch.cat((-sin_1SD[0, :, :half], sin_1SD[0, :, half:]), -1)

    def tail(self, rows: int, slots: int) -> Part:
        """Room for `slots` tokens of every row."""
        return Part.empty(len(self._layers), (self._kv_heads * rows, slots, self._head_dim), self._kept)

    def prefill(self, embeds_RTH: Tensor) -> tuple[Tensor, Part]:
        """Causal pass over right-padded rows from position 0: real tokens never see the padding behind them.

        Returns:
            Hidden states [R, T, H] after the final norm, and the keys and values of all T slots.
        """
        rows, length, _ = embeds_RTH.shape
        later_TT = torch.ones(length, length, dtype=torch.bool, device=embeds_RTH.device).triu(1)
        causal = mask(later_TT.repeat(self._queries, 1)).squeeze(1)
        kept: list[tuple[Tensor, Tensor]] = []

        def causally(_: int, __: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            kept.append((k, v))
            return attend(q, kept[-1:], [causal], rows, self.dtype)

        positions_N = torch.arange(length, device=embeds_RTH.device).repeat(rows)
        hidden_NH = self._run(embeds_RTH.flatten(0, 1), positions_N, [rows], causally)
        keys, values = zip(*kept, strict=True)
        return hidden_NH.view(embeds_RTH.shape), Part(keys, values)

    def step(self, embeds_RH: Tensor, positions_R: Tensor, streams: Sequence[Stream], slot: Slot) -> Tensor:
        """One new token of every row, the streams' rows one below the other; returns [R, H] after the final norm."""

        def stepping(layer: int, stream: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return streams[stream].attend(layer, q, k, v, slot, self.dtype)

        return self._run(embeds_RH, positions_R, [stream.rows for stream in streams], stepping)

    def _run(
        self, hidden_NH: Tensor, positions_N: Tensor, rows: Sequence[int], attention: Attention
    ) -> Tensor:
        """All layers and the final norm over N tokens, equally many of every row, for groups of so many `rows`."""
        cos_N1D, sin_N1D = self._cos_SD[positions_N, None], self._sin_SD[positions_N, None]
        sizes = [count * len(hidden_NH) // sum(rows) for count in rows]
        heads = self._kv_heads * self._queries
        for index, layer in enumerate(self._layers):
            qkv = layer.qkv(layer.norm(hidden_NH)).unflatten(-1, (-1, self._head_dim))
            q, k = _rotate(qkv[:, : heads + self._kv_heads], cos_N1D, sin_N1D).split(
                [heads, self._kv_heads], 1
            )
            ready = (
                (q * self._head_dim**-0.5).to(self.dtype),
                k.to(self.dtype),
                qkv[:, heads + self._kv_heads :],
            )
            groups = zip(rows, *(one.split(sizes) for one in ready), strict=True)
            mixed = [
                self._by_row(attention(index, group, *(self._by_head(one, count) for one in tensors)), count)
                for group, (count, *tensors) in enumerate(groups)
            ]
            hidden_NH = hidden_NH + layer.out(torch.cat(mixed) if len(mixed) > 1 else mixed[0])
            gate, up = layer.gate_up(layer.mlp_norm(hidden_NH)).chunk(2, dim=-1)
            hidden_NH = hidden_NH + layer.down(layer.activation(gate) * up)
        return self._norm(hidden_NH)

    def _by_head(self, x: Tensor, rows: int) -> Tensor:
        """[R * T, heads, D] to [G * R, heads / G * T, D], as the cache keeps it."""
        apart = x.view(rows, -1, self._kv_heads, x.shape[1] // self._kv_heads, self._head_dim)
        return (
            apart.permute(2, 0, 3, 1, 4)
            .reshape(self._kv_heads * rows, -1, self._head_dim)
            .to(self._kept.dtype)
        )

    def _by_row(self, mixed: Tensor, rows: int) -> Tensor:
        """[G * R, Q * T, D] back to [R * T, G * Q * D]."""
        apart = mixed.view(self._kv_heads, rows, self._queries, -1, self._head_dim)
        return apart.permute(1, 3, 0, 2, 4).reshape(rows * apart.shape[3], -1)


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
