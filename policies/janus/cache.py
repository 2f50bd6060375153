"""Keys and values of a rollout in static buffers: parts that rows share, and a tail with a row for each.

Everything is ordered by head first: rows that share a part then stand side by side, and one matrix product
serves them all.

Shapes: R rows that step together, P rows of a part (each seen by R / P consecutive rows), S slots,
G key-value heads, Q query heads per key-value head, D head width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


def mask(hidden_RS: Tensor) -> Tensor:
    """[R, 1, S] to be added to scores: very low where True; finite, so that a row that sees nothing does not become NaN."""
    return torch.zeros(hidden_RS.shape, device=hidden_RS.device).masked_fill_(
        hidden_RS, torch.finfo(torch.float32).min / 4
    )[:, None]


@dataclass(frozen=True)
class Slot:
    """The slot of the tails that a step fills, and how many of their slots it sees.

    `place` is a number, or a tensor of one number where a recorded step is played again at another slot;
    `seen` then goes beyond it, and `mask_R1S` hides what does.
    """

    place: int | Tensor
    seen: int
    mask_R1S: Tensor | None = None


class Part:
    """Keys and values [G * P, S, D] of every layer; `mask_R1S` hides slots from rows (None: all are seen)."""

    def __init__(
        self, keys: Sequence[Tensor], values: Sequence[Tensor], mask_R1S: Tensor | None = None
    ) -> None:
        self.keys, self.values, self.mask_R1S = keys, values, mask_R1S

    @classmethod
    def empty(cls, layers: int, shape: tuple[int, int, int], like: Tensor) -> Part:
        """Zeros, since a hidden slot's value still meets a weight of 0."""
        return cls(
            [like.new_zeros(shape) for _ in range(layers)], [like.new_zeros(shape) for _ in range(layers)]
        )

    @property
    def slots(self) -> int:
        return self.keys[0].shape[1]

    def until(self, end: int) -> Part:
        """Its first slots, not copied."""
        return Part(
            [keys[:, :end] for keys in self.keys], [values[:, :end] for values in self.values], self.mask_R1S
        )

    def write(self, layer: int, slot: Slot, k: Tensor, v: Tensor) -> None:
        """Stores [G * P, 1, D] at the slot."""
        for buffer, new in ((self.keys[layer], k), (self.values[layer], v)):
            if isinstance(slot.place, int):
                buffer[:, slot.place : slot.place + 1] = new
            else:
                buffer.index_copy_(1, slot.place, new)


@dataclass(frozen=True)
class Stream:
    """`rows` rows that see the same `parts`, then what they write themselves: their `tail`."""

    rows: int
    parts: Sequence[Part]
    tail: Part

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, slot: Slot, dtype: torch.dtype) -> Tensor:
        """[G * R, Q, D] for scaled queries of that shape, after the new keys and values [G * R, 1, D] are written."""
        self.tail.write(layer, slot, k, v)
        pairs = [(part.keys[layer], part.values[layer]) for part in self.parts]
        pairs.append((self.tail.keys[layer][:, : slot.seen], self.tail.values[layer][:, : slot.seen]))
        masks = [*(part.mask_R1S for part in self.parts), slot.mask_R1S]
        return attend(q, pairs, masks, self.rows, dtype)


def attend(
    q: Tensor,
    pairs: Sequence[tuple[Tensor, Tensor]],
    masks: Sequence[Tensor | None],
    rows: int,
    dtype: torch.dtype,
) -> Tensor:
    """Attention of scaled queries [G * R, Q, D] over all slots of several keys and values [G * P, S, D].

    Scores and weights are rounded to `dtype`, as training's products in that format round them
    (`policies.janus.attention`): log-probs then replay closely.

    Args:
        q: scaled queries.
        pairs: keys and values; those with fewer rows are shared by consecutive rows.
        masks: for each pair what is added to the scores, of a shape that fits [G, R, Q, S], or None.
        rows: R.
        dtype: the number format of matrix products.
    """
    scores = [_scores(q, keys, dtype) for keys, _ in pairs]
    for score, hidden in zip(scores, masks, strict=True):
        if hidden is not None:
            score.unflatten(0, (-1, rows)).add_(hidden)
    weights = torch.softmax(torch.cat(scores, -1) if len(scores) > 1 else scores[0], -1).to(dtype).to(q.dtype)
    shares = weights.split([keys.shape[1] for keys, _ in pairs], -1)
    mixed = [_mix(share, values) for share, (_, values) in zip(shares, pairs, strict=True)]
    return sum(mixed[1:], start=mixed[0])


def _scores(q: Tensor, keys: Tensor, dtype: torch.dtype) -> Tensor:
    """[G * R, Q, S] in float32."""
    together = q.view(len(keys), -1, q.shape[-1])
    if q.is_cuda and dtype != torch.float32:
        scores = torch.bmm(
            together, keys.transpose(1, 2), out_dtype=torch.float32
        )  # fused kernels do not round them
    else:
        scores = torch.bmm(together, keys.transpose(1, 2)).to(dtype).float()
    return scores.view(*q.shape[:2], -1)


def _mix(weights: Tensor, values: Tensor) -> Tensor:
    """[G * R, Q, D]."""
    together = weights.reshape(len(values), -1, values.shape[1])
    return torch.bmm(together, values).view(*weights.shape[:2], -1)
