"""Keys and values of a rollout in static buffers: prefixes that rows share, and a tail with one row for each.

The first dimension is ordered by head, then by row. Rows that share a prefix are then adjacent, and one
matrix product serves them all.

Shapes: R rows that step together, P rows of a prefix (each visible to R / P consecutive rows), S slots,
G key-value heads, D head width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor


class KeyValues:
    """Keys and values [G * P, S, D] of every layer. Rows see their first `filled_R` slots; None: all."""

    def __init__(
        self, keys: Sequence[Tensor], values: Sequence[Tensor], filled_R: Tensor | None = None
    ) -> None:
        self.keys, self.values, self.filled_R = keys, values, filled_R

    @classmethod
    def empty(cls, layers: int, shape: tuple[int, int, int], like: Tensor) -> KeyValues:
        """Zeros: a hidden slot's value is still multiplied by a weight of 0."""
        keys = [like.new_zeros(shape) for _ in range(layers)]
        values = [like.new_zeros(shape) for _ in range(layers)]
        return cls(keys, values)

    @property
    def slots(self) -> int:
        return self.keys[0].shape[1]

    def seen(self, filled_R: Tensor) -> KeyValues:
        """The same keys and values, of which rows see their first `filled_R` slots."""
        return KeyValues(self.keys, self.values, filled_R)


@dataclass(frozen=True)
class RowGroup:
    """Rows that attend to the same `prefixes`, then to their own `tail`, which they write step by step."""

    rows: int
    prefixes: Sequence[KeyValues]
    tail: KeyValues
