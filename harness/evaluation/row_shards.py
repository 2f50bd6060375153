"""Rows that several processes write side by side, and that outlive a kill: JSON-lines files, one of each process, in a folder.

Work on n items is shared out by blocks of consecutive ones. What any of the files holds is not done again, whoever wrote
it and however many processes there were.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.files import read_rows

BLOCK = 64  # items


def place() -> tuple[int, int]:
    """The number of this process, from 0, and of how many; imports no torch where it is alone."""
    torch = sys.modules.get("torch")
    if torch is None or not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return 0, 1
    return torch.distributed.get_rank(), torch.distributed.get_world_size()


def meet() -> None:
    """Returns once every process has called it."""
    if place()[1] > 1:
        import torch

        torch.distributed.all_reduce(
            torch.zeros(1)
        )  # on the CPU: a barrier would want a device of every backend


class Parts:
    """The files `0.jsonl`, `1.jsonl`, ... of a folder; a row names its item, `index`, from 0."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._rank, self._processes = place()
        self._own = folder / f"{self._rank}.jsonl"
        self._counted: dict[Path, tuple[int, int]] = {}

    def open(self) -> None:
        """Makes the folder, or mends what a kill has left in it: a file ends with its last whole row."""
        if self._rank == 0:
            self._folder.mkdir(exist_ok=True)
            for file in self._files():
                _mend(file)
        meet()

    def to_do(self, count: int) -> Iterator[list[int]]:
        """The items of `count` that no file holds and that are this process's, block by block."""
        held = {row["index"] for row in self.rows()}
        for start in range(self._rank * BLOCK, count, self._processes * BLOCK):
            if block := [index for index in range(start, min(start + BLOCK, count)) if index not in held]:
                yield block

    def append(self, done: Sequence[Mapping[str, Any]]) -> None:
        """Adds rows to this process's file, in one piece."""
        with self._own.open("ab") as file:
            file.write("".join(json.dumps(row) + "\n" for row in done).encode())

    def rows(self) -> list[dict[str, Any]]:
        """The whole rows of all files."""
        return [row for file in self._files() for row in read_rows(file)]

    def count(self) -> int:
        """How many rows there are now; what was counted before is not read again."""
        for file in self._files():
            end, lines = self._counted.get(file, (0, 0))
            with file.open("rb") as stream:
                stream.seek(end)
                added = stream.read()
            self._counted[file] = end + len(added), lines + added.count(b"\n")
        return sum(lines for _, lines in self._counted.values())

    def _files(self) -> list[Path]:
        return sorted(self._folder.glob("*.jsonl"))


def _mend(file: Path) -> None:
    """Cuts a file at its first line that is no whole row."""
    kept = 0
    with file.open("rb") as lines:
        for line in lines:
            try:
                json.loads(line)["index"]
            except (ValueError, TypeError, KeyError):
                break
            if not line.endswith(b"\n"):
                break
            kept += len(line)
    os.truncate(file, kept)
