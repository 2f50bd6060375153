"""Attention of a rollout as matrix products over all rows at once: prompts, and the steps of a GPU.

Shapes: R rows, T tokens, N = R * T tokens of all rows, P rows of a prefix, S slots, G key-value heads,
Q query heads per key-value head, D head width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from policies.janus.cache import KeyValues, RowGroup


def mask(hidden_RS: Tensor) -> Tensor:
    """Scores [R, 1, S] to add: very low where True, but finite, so that a fully masked row is not NaN."""
    scores_RS = torch.zeros(hidden_RS.shape, device=hidden_RS.device)
    return scores_RS.masked_fill_(hidden_RS, torch.finfo(torch.float32).min / 4)[:, None]


@dataclass(frozen=True, kw_only=True)
class Heads:
    """The heads of a decoder, and the number format of its matrix products, keys and values."""

    kv_heads: int
    queries: int  # per key-value head
    width: int
    dtype: torch.dtype

    def split(self, qkv_NH: Tensor, cos_ND: Tensor, sin_ND: Tensor, rows: int) -> tuple[Tensor, ...]:
        """Scaled queries [G * R, Q * T, D], keys and values [G * R, T, D], at their rotary positions."""
        heads, kv_heads = self.kv_heads * self.queries, self.kv_heads
        qkv = qkv_NH.unflatten(-1, (-1, self.width))
        rotated = _rotate(qkv[:, : heads + kv_heads], cos_ND[:, None], sin_ND[:, None])
        q, k = rotated.split([heads, kv_heads], 1)
        parts = (q * self.width**-0.5, k, qkv[:, heads + kv_heads :])
        return tuple(self._by_head(part.to(self.dtype), rows) for part in parts)

    def join(self, mixed: Tensor, rows: int) -> Tensor:
        """[G * R, Q * T, D] back to [R * T, G * Q * D]."""
        split = mixed.view(self.kv_heads, rows, self.queries, -1, self.width)
        return split.permute(1, 3, 0, 2, 4).reshape(rows * split.shape[3], -1)

    def _by_head(self, x: Tensor, rows: int) -> Tensor:
        """[R * T, heads, D] to [G * R, heads / G * T, D], the layout of the cache."""
        split = x.view(rows, -1, self.kv_heads, x.shape[1] // self.kv_heads, self.width)
        return split.permute(2, 0, 3, 1, 4).reshape(self.kv_heads * rows, -1, self.width).contiguous()


class BatchAttention:
    """Attention of a step over whole buckets of slots, at shapes and addresses that do not change in between.

    Args:
        groups: whose rows follow one another.
        heads: of the decoder.
    """

    def __init__(self, groups: Sequence[RowGroup], heads: Heads) -> None:
        self._heads = heads
        self._groups = []
        for group in groups:
            prefixes = [_Seen(prefix) for prefix in group.prefixes]
            self._groups.append((group, [prefix for prefix in prefixes if prefix.slots]))

    def __call__(self, layer: int, qkv_RH: Tensor, cos_RD: Tensor, sin_RD: Tensor, slot: Slot) -> Tensor:
        """[R, G * Q * D] for the projected tokens [R, (G * Q + 2 * G) * D], which go to the slot."""
        mixed, first = [], 0
        for group, prefixes in self._groups:
            rows = slice(first, first + group.rows)
            q, k, v = self._heads.split(qkv_RH[rows], cos_RD[rows], sin_RD[rows], group.rows)
            keys, values = group.tail.keys[layer], group.tail.values[layer]
            keys.index_copy_(1, slot.index, k)
            values.index_copy_(1, slot.index, v)
            pairs = [prefix.pairs[layer] for prefix in prefixes]
            pairs.append((keys[:, : slot.visible], values[:, : slot.visible]))
            masks = [*(prefix.mask_R1S for prefix in prefixes), slot.mask_R1S]
            mixed.append(self._heads.join(attend(q, pairs, masks, group.rows, self._heads.dtype), group.rows))
            first += group.rows
        return torch.cat(mixed) if len(mixed) > 1 else mixed[0]


@dataclass(frozen=True)
class Slot:
    """The slot of the tails that a step writes, and the number of their first slots that it reads.

    A recorded step is replayed at other slots, so `index` is a tensor of one number. The step reads slots
    after it, too, and `mask_R1S` hides them.
    """

    index: Tensor
    visible: int
    mask_R1S: Tensor


class _Seen:
    """What rows see of a prefix: its slots up to the last that any row has filled, and a mask of the rest."""

    def __init__(self, prefix: KeyValues) -> None:
        filled_R, self.slots = prefix.filled_R, prefix.slots
        self.mask_R1S: Tensor | None = None
        if filled_R is not None:
            self.slots = int(filled_R.max())
            hidden_RS = torch.arange(self.slots, device=filled_R.device) >= filled_R[:, None]
            self.mask_R1S = mask(hidden_RS) if hidden_RS.any() else None
        self.pairs = [
            (keys[:, : self.slots], values[:, : self.slots])
            for keys, values in zip(prefix.keys, prefix.values, strict=True)
        ]


def attend(
    q: Tensor,
    pairs: Sequence[tuple[Tensor, Tensor]],
    masks: Sequence[Tensor | None],
    rows: int,
    dtype: torch.dtype,
) -> Tensor:
    """Attention of scaled queries [G * R, Q, D] over all slots of several keys and values [G * P, S, D].

    Scores and weights are rounded to `dtype`, as matrix products in training round them
    (`policies.janus.attention`), so that replayed log-probs stay close.

    Args:
        q: scaled queries.
        pairs: keys and values; consecutive rows share those with fewer rows.
        masks: for each pair, scores to add that broadcast to [G, R, Q, S], or None.
        rows: R.
        dtype: the number format of matrix products.
    """
    scores = [_scores(q, keys, dtype) for keys, _ in pairs]
    for score, mask_R1S in zip(scores, masks, strict=True):
        if mask_R1S is not None:
            score.unflatten(0, (-1, rows)).add_(mask_R1S)
    joined = torch.cat(scores, -1) if len(scores) > 1 else scores[0]
    weights = torch.softmax(joined, -1).to(dtype)
    weights_of_pairs = weights.split([keys.shape[1] for keys, _ in pairs], -1)
    mixed = [_mix(weights, values) for weights, (_, values) in zip(weights_of_pairs, pairs, strict=True)]
    return sum(mixed[1:], start=mixed[0])


def _scores(q: Tensor, keys: Tensor, dtype: torch.dtype) -> Tensor:
    """[G * R, Q, S] in float32."""
    queries = q.view(len(keys), -1, q.shape[-1])
    scores = _product(queries, keys.transpose(1, 2))
    if not q.is_cuda:  # fused kernels, with which a GPU trains, do not round scores
        scores = scores.to(dtype).float()
    return scores.view(*q.shape[:2], -1)


def _mix(weights: Tensor, values: Tensor) -> Tensor:
    """[G * R, Q, D] in float32."""
    grouped = weights.reshape(len(values), -1, values.shape[1])
    return _product(grouped, values).view(*weights.shape[:2], -1)


def _product(one: Tensor, other: Tensor) -> Tensor:
    """Batched products in float32."""
    if one.is_cuda and one.dtype != torch.float32:
        return torch.bmm(one, other, out_dtype=torch.float32)
    return torch.bmm(one.float(), other.float())


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions; the first half of `sin` is negated."""
    first, second = x.chunk(2, dim=-1)
    return torch.addcmul(x * cos, torch.cat((second, first), dim=-1), sin)
