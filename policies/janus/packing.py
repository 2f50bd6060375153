"""The positions of a batch's sequences in the decoder's input: one sequence per row, or several packed.

Shapes: R rows of the input, N its width; slot r * N + n is column n of row r.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

PADDING = -1


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Every sequence lies in one row; its tokens fill the slots from its start on."""

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
        """[R or 1, N] rotary positions: every sequence counts from 0, wherever it lies in its row."""
        column_N = torch.arange(self.width, device=device)
        if not self.packed:
            return column_N[None]
        first = torch.zeros(self.rows * self.width, dtype=torch.long)
        for start, length in zip(self.starts, self.lengths, strict=True):
            first[start : start + length] = start % self.width
        return column_N - first.view(self.rows, -1).to(device)

    def allowed(self, device: torch.device) -> Tensor:
        """[R or 1, 1, N, N] True where a query (third axis) sees a key of its sequence: itself or before."""
        causal = torch.ones(self.width, self.width, dtype=torch.bool, device=device).tril()
        if not self.packed:
            return causal[None, None]
        # padding sees padding, so that every query sees a key
        owner = torch.full((self.rows * self.width,), PADDING)
        for sequence, (start, length) in enumerate(zip(self.starts, self.lengths, strict=True)):
            owner[start : start + length] = sequence
        owner_RN = owner.view(self.rows, -1).to(device)
        return (causal & (owner_RN[:, :, None] == owner_RN[:, None, :]))[:, None]


def one_per_row(lengths: Sequence[int]) -> Layout:
    """Right-padded rows in the order of the sequences, as wide as the longest."""
    width = max(lengths)
    starts = tuple(index * width for index in range(len(lengths)))
    return Layout(rows=len(lengths), width=width, starts=starts, lengths=tuple(lengths), packed=False)


def first_fit(lengths: Sequence[int], size: int) -> Layout:
    """Packs sequences into rows of `size` tokens, longest first, each into the first row with room.

    Raises:
        ValueError: a sequence is longer than `size`.
    """
    if max(lengths) > size:
        raise ValueError(
            f"policies.pack={size}: a sequence of prompt, chain and image has {max(lengths)} tokens and fits"
            f" into no row: give at least {max(lengths)}, or null to leave rows unpacked"
        )
    filled: list[int] = []  # tokens in each row
    positions: dict[int, tuple[int, int]] = {}  # sequence -> its row and column
    for sequence in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        row = 0
        while row < len(filled) and filled[row] + lengths[sequence] > size:
            row += 1
        if row == len(filled):
            filled.append(0)
        positions[sequence] = row, filled[row]
        filled[row] += lengths[sequence]
    width = max(filled)
    starts = []
    for sequence in range(len(lengths)):
        row, column = positions[sequence]
        starts.append(row * width + column)
    return Layout(rows=len(filled), width=width, starts=tuple(starts), lengths=tuple(lengths), packed=True)
