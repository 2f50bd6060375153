"""Where the sequences of a batch lie in the decoder's input: one to a row, or packed several to a row.

Shapes: R rows of the input, N its width, so that slot r * N + n is column n of row r.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

PADDING = -1


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Every sequence lies whole in one row: its tokens take the slots from its start on."""

    rows: int
    width: int
    starts: tuple[int, ...]
    lengths: tuple[int, ...]
    packed: bool

    def slots(self, sequence: int, first: int, count: int) -> Tensor:
        """The slots of `count` tokens of a sequence, from its token `first` on."""
        start = self.starts[sequence] + first
        return torch.arange(start, start + count)

    def positions(self, device: torch.device) -> Tensor:
        """[R or 1, N] rotary positions: every sequence counts from 0, whatever lies before it in its row."""
        column_N = torch.arange(self.width, device=device)
        if not self.packed:
            return column_N[None]
        first = torch.zeros(self.rows * self.width, dtype=torch.long)
        for start, length in zip(self.starts, self.lengths, strict=True):
            first[start : start + length] = start % self.width
        return column_N - first.view(self.rows, -1).to(device)

    def allowed(self, device: torch.device) -> Tensor:
        """[R or 1, 1, N, N] True where a query (third axis) may see a key: its own sequence, itself and before."""
        causal = torch.ones(self.width, self.width, dtype=torch.bool, device=device).tril()
        if not self.packed:
            return causal[None, None]
        owner = torch.full(
            (self.rows * self.width,), PADDING
        )  # padding sees padding, so that no query sees nothing
        for sequence, (start, length) in enumerate(zip(self.starts, self.lengths, strict=True)):
            owner[start : start + length] = sequence
        owner_RN = owner.view(self.rows, -1).to(device)
        return (causal & (owner_RN[:, :, None] == owner_RN[:, None, :]))[:, None]


def one_to_a_row(lengths: Sequence[int]) -> Layout:
    """Right-padded rows in the order of the sequences, as wide as the longest."""
    width = max(lengths)
    starts = tuple(index * width for index in range(len(lengths)))
    return Layout(rows=len(lengths), width=width, starts=starts, lengths=tuple(lengths), packed=False)


def first_fit(lengths: Sequence[int], size: int) -> Layout:
    """Sequences, longest first, each into the first row that has room for it below `size` tokens.

    Raises:
        ValueError: a sequence is longer than `size`.
    """
    if max(lengths) > size:
        raise ValueError(
            f"policies.pack={size}: a sequence of prompt, chain and image has {max(lengths)} tokens and fits into no row:"
            f" give at least {max(lengths)}, or null to leave rows unpacked"
        )
    filled: list[int] = []
    places = {}
    for sequence in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        row = next((row for row, used in enumerate(filled) if used + lengths[sequence] <= size), len(filled))
        if row == len(filled):
            filled.append(0)
        places[sequence] = row, filled[row]
        filled[row] += lengths[sequence]
    width = max(filled)
    starts = tuple(
        row * width + column for row, column in (places[sequence] for sequence in range(len(lengths)))
    )
    return Layout(rows=len(filled), width=width, starts=starts, lengths=tuple(lengths), packed=True)
