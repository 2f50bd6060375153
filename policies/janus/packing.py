"""The positions of a batch's sequences in the decoder's input: rows, padded or packed, or a tree of prefixes.

Shapes: R rows of the input, N its width; slot r * N + n is column n of row r. B sequences, T tokens of the
longest one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

PADDING = -1
MULTIPLE = 32  # of a tree's width: oneDNN compiles its bfloat16 products once for each size


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Every sequence lies in one row; its tokens fill the slots from its start on, and are its own."""

    rows: int
    width: int
    starts: tuple[int, ...]
    lengths: tuple[int, ...]
    packed: bool

    def slots(self, sequence: int, first: int, count: int) -> Tensor:
        """The slots of `count` tokens of a sequence, from its token `first` on."""
        start = self.starts[sequence] + first
        return torch.arange(start, start + count)

    def shared(self, sequence: int) -> int:
        """How many tokens of a sequence have the slots of an earlier one: none."""
        return 0

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


@dataclass(frozen=True, kw_only=True)
class Tree:
    """One row that holds every token once: tokens with the same past have the same state, and one slot.

    So the samples of a group share their prompt, and erased rows nearly all of their text. The last slots may
    be padding, which no sequence has.
    """

    tokens: tuple[tuple[int, ...], ...]  # the slots of every sequence
    firsts: tuple[int, ...]  # the first tokens of each that earlier sequences have, too
    width: int
    rows: int = 1

    @cached_property
    def _slots(self) -> list[Tensor]:
        return [torch.tensor(slots, dtype=torch.long) for slots in self.tokens]

    def slots(self, sequence: int, first: int, count: int) -> Tensor:
        """The slots of `count` tokens of a sequence, from its token `first` on."""
        return self._slots[sequence][first : first + count]

    def shared(self, sequence: int) -> int:
        """How many tokens of a sequence have the slots of earlier ones."""
        return self.firsts[sequence]

    def positions(self, device: torch.device) -> Tensor:
        """[1, N] rotary positions."""
        position_N = torch.zeros(self.width, dtype=torch.long)
        for slots in self._slots:
            position_N[slots] = torch.arange(len(slots))
        return position_N[None].to(device)


def tree(texts: Sequence[Sequence[int]], more: int) -> Tree:
    """The tree of sequences with these ids, each followed by `more` tokens of its own."""
    child: dict[tuple[int, int], int] = {}  # slot and next id -> slot
    tokens, firsts = [], []
    width = 0
    for ids in texts:
        slots: list[int] = []
        before, last = width, -1
        for token in ids:
            last = child.setdefault((last, token), width)
            width += last == width
            slots.append(last)
        firsts.append(sum(slot < before for slot in slots))
        slots += range(width, width + more)
        width += more
        tokens.append(tuple(slots))
    return Tree(tokens=tuple(tokens), firsts=tuple(firsts), width=rounded_up(width))


def rounded_up(count: int) -> int:
    """The next multiple of `MULTIPLE`."""
    return -(-count // MULTIPLE) * MULTIPLE


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
