"""Forward passes of the Llama decoder: a static cache for rollouts, plain causal rows for training.

The modules are transformers' own (so LoRA layers put in their place are honoured); only attention and
the cache are ours. All rows share one slot counter: a row that has nothing at a slot (left padding, a
chain that ended earlier) has that slot masked, and its rotary position counts only its own tokens.

Shapes: B rows, T new tokens, S slots seen, H hidden, K key-value heads, G query heads per K, D head width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


def blocked(dtype: torch.dtype) -> float:
    """What a masked score gets: finite, so that a padding row that sees nothing does not become NaN."""
    return torch.finfo(dtype).min / 4


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


class Cache:
    """Keys and values of `rows` rows and `slots` slots, allocated once; `used` slots are filled."""

    def __init__(self, decoder: Decoder, rows: int, slots: int, like: Tensor) -> None:
        shape = (len(decoder.layers), rows * decoder.kv_heads, slots, decoder.head_dim)
        device = like.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else like.dtype
        self.keys = like.new_zeros(shape, dtype=dtype)  # zeros, not empty: a masked slot still meets a weight of 0
        self.values = like.new_zeros(shape, dtype=dtype)
        self.mask_BS = like.new_zeros(rows, slots)  # 0, or `blocked` where a row has nothing at a slot
        self.used = 0

    def hide(self, where_BS: Tensor, *, row: int = 0, slot: int = 0) -> None:
        """Masks the slots that are True; the block's first corner is at (row, slot)."""
        rows, width = where_BS.shape
        self.mask_BS[row : row + rows, slot : slot + width].masked_fill_(where_BS, blocked(self.mask_BS.dtype))


@dataclass(frozen=True)
class _Step:
    cos: Tensor
    sin: Tensor
    mask: Tensor | None
    cache: Cache | None
    rows: slice


class Decoder:
    """`transformers` LlamaModel weights, our attention."""

    def __init__(self, language_model: torch.nn.Module) -> None:
        config = language_model.config
        self.layers = language_model.layers
        self.norm = language_model.norm
        self.rotary = language_model.rotary_emb
        self.kv_heads = config.num_key_value_heads
        self.groups = config.num_attention_heads // config.num_key_value_heads
        self.head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads

    def extend(self, embeds_BTH: Tensor, positions_BT: Tensor, cache: Cache, rows: int) -> Tensor:
        """Runs T new tokens of the first `rows` cache rows and stores them at the next T slots.

        Returns the hidden states after the final norm. Slots that `cache.hide` named stay unseen.
        """
        length = embeds_BTH.shape[1]
        seen = cache.used + length
        mask = cache.mask_BS[:rows, None, :seen]
        if length > 1:
            mask = mask + _causal(length, seen, embeds_BTH)
        hidden = self._run(embeds_BTH, positions_BT, mask, cache, slice(0, rows * self.kv_heads))
        cache.used = seen
        return hidden

    def forward(self, embeds_BTH: Tensor) -> Tensor:
        """Causal pass over right-padded rows: real tokens never see the padding behind them."""
        length = embeds_BTH.shape[1]
        positions = torch.arange(length, device=embeds_BTH.device)[None]
        return self._run(embeds_BTH, positions, _causal(length, length, embeds_BTH)[None], None, slice(None))

    def _run(self, hidden: Tensor, positions: Tensor, mask: Tensor, cache: Cache | None, rows: slice) -> Tensor:
        cos, sin = self.rotary(hidden, positions)
        step = _Step(cos[:, None], sin[:, None], mask[:, None], cache, rows)
        for index, layer in enumerate(self.layers):
            hidden = hidden + self._attend(layer.self_attn, layer.input_layernorm(hidden), step, index)
            hidden = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
        return self.norm(hidden)

    def _attend(self, attention: torch.nn.Module, x: Tensor, step: _Step, index: int) -> Tensor:
        batch, length = x.shape[:2]

        def heads(projected: Tensor) -> Tensor:
            return projected.view(batch, length, -1, self.head_dim).transpose(1, 2)

        q = _rotate(heads(attention.q_proj(x)), step.cos, step.sin) * self.head_dim**-0.5
        k = _rotate(heads(attention.k_proj(x)), step.cos, step.sin).reshape(-1, length, self.head_dim)
        v = heads(attention.v_proj(x)).reshape(-1, length, self.head_dim)
        if step.cache is not None:
            k, v = self._store(step, index, k, v)
        q = q.reshape(batch * self.kv_heads, self.groups * length, self.head_dim)
        scores = torch.bmm(q, k.transpose(1, 2)).view(batch, self.kv_heads * self.groups, length, -1) + step.mask
        weights = torch.softmax(scores, dim=-1).view(q.shape[0], q.shape[1], -1)
        out = torch.bmm(weights, v).view(batch, self.kv_heads * self.groups, length, self.head_dim)
        return attention.o_proj(out.transpose(1, 2).reshape(batch, length, -1))

    def _store(self, step: _Step, index: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        cache = step.cache
        assert cache is not None
        end = cache.used + k.shape[1]
        cache.keys[index, step.rows, cache.used : end] = k
        cache.values[index, step.rows, cache.used : end] = v
        return cache.keys[index, step.rows, :end], cache.values[index, step.rows, :end]


def _causal(length: int, seen: int, like: Tensor) -> Tensor:
    """[length, seen] mask: the last `length` of `seen` slots are the new tokens."""
    return like.new_full((length, seen), blocked(like.dtype)).triu(diagonal=seen - length + 1)
