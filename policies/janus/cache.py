"""Keys and values of a rollout in static buffers: prefixes that rows share, and a tail with one row for each.

The first dimension is ordered by head, then by row. Rows that share a prefix are then adjacent, and one
matrix product serves them all.

Shapes: R rows that step together, P rows of a prefix (each visible to R / P consecutive rows), S slots,
G key-value heads, Q query heads per key-value head, D head width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


def mask(hidden_RS: Tensor) -> Tensor:
    """Scores [R, 1, S] to add: very low where True, but finite, so that a fully masked row is not NaN."""
    scores_RS = torch.zeros(hidden_RS.shape, device=hidden_RS.device)
    return scores_RS.masked_fill_(hidden_RS, torch.finfo(torch.float32).min / 4)[:, None]


@dataclass(frozen=True)
class WriteSlot:
    """The slot of the tails that a step writes, and the number of their first slots that it reads.

    `index` is a number, or a tensor of one number if a recorded step is replayed at other slots. The step
    then reads slots after `index` too, and `mask_R1S` hides them.
    """

    index: int | Tensor
    visible: int
    mask_R1S: Tensor | None = None


class KeyValues:
    """Keys and values [G * P, S, D] of every layer. `mask_R1S` hides slots from rows; None hides none."""

    def __init__(
        self, keys: Sequence[Tensor], values: Sequence[Tensor], mask_R1S: Tensor | None = None
    ) -> None:
        self.keys, self.values, self.mask_R1S = keys, values, mask_R1S

    @classmethod
    def empty(cls, layers: int, shape: tuple[int, int, int], like: Tensor) -> KeyValues:
        """Zeros: a hidden slot's value is still multiplied by a weight of 0."""
        keys = [like.new_zeros(shape) for _ in range(layers)]
        values = [like.new_zeros(shape) for _ in range(layers)]
        return cls(keys, values)

    @property
    def slots(self) -> int:
        return self.keys[0].shape[1]

    def first(self, slots: int, mask_R1S: Tensor | None) -> KeyValues:
        """The first slots, as views, with a mask of their own."""
        keys = [keys[:, :slots] for keys in self.keys]
        values = [values[:, :slots] for values in self.values]
        return KeyValues(keys, values, mask_R1S)

    def write(self, layer: int, slot: WriteSlot, k: Tensor, v: Tensor) -> None:
        """Stores [G * P, 1, D] at the slot."""
        for buffer, new in ((self.keys[layer], k), (self.values[layer], v)):
            if isinstance(slot.index, int):
                buffer[:, slot.index : slot.index + 1] = new
            else:
                buffer.index_copy_(1, slot.index, new)


@dataclass(frozen=True)
class RowGroup:
    """Rows that attend to the same `prefixes`, then to their own `tail`, which they write step by step."""

    rows: int
    prefixes: Sequence[KeyValues]
    tail: KeyValues

    def attend(
        self, layer: int, q: Tensor, k: Tensor, v: Tensor, slot: WriteSlot, dtype: torch.dtype
    ) -> Tensor:
        """Writes keys and values [G * R, 1, D]; returns [G * R, Q, D] for scaled queries of that shape."""
        self.tail.write(layer, slot, k, v)
        pairs = [(prefix.keys[layer], prefix.values[layer]) for prefix in self.prefixes]
        pairs.append((self.tail.keys[layer][:, : slot.visible], self.tail.values[layer][:, : slot.visible]))
        masks = [prefix.mask_R1S for prefix in self.prefixes]
        masks.append(slot.mask_R1S)
        return attend(q, pairs, masks, self.rows, dtype)


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
    weights = torch.softmax(joined, -1).to(dtype).to(q.dtype)
    weights_of_pairs = weights.split([keys.shape[1] for keys, _ in pairs], -1)
    mixed = [_mix(weights, values) for weights, (_, values) in zip(weights_of_pairs, pairs, strict=True)]
    return sum(mixed[1:], start=mixed[0])


def _scores(q: Tensor, keys: Tensor, dtype: torch.dtype) -> Tensor:
    """[G * R, Q, S] in float32."""
    queries = q.view(len(keys), -1, q.shape[-1])
    if q.is_cuda and dtype != torch.float32:  # fused kernels do not round scores
        scores = torch.bmm(queries, keys.transpose(1, 2), out_dtype=torch.float32)
    else:
        scores = torch.bmm(queries, keys.transpose(1, 2)).to(dtype).float()
    return scores.view(*q.shape[:2], -1)


def _mix(weights: Tensor, values: Tensor) -> Tensor:
    """[G * R, Q, D]."""
    grouped = weights.reshape(len(values), -1, values.shape[1])
    return torch.bmm(grouped, values).view(*weights.shape[:2], -1)
