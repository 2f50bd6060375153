"""Rows that several processes write at once and that survive a kill: one JSON-lines file per process.

The processes share n items by blocks of consecutive items. An item that any of the files holds is done,
whichever process wrote it and however many processes there were.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness import team
from harness.files import read_rows, truncate_rows, write_rows

BLOCK = 64  # items


class RowShards:
    """The files `0.jsonl`, `1.jsonl`, ... of a folder. A row names its item, `index`, from 0."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._rank, self._processes = team.rank_and_size()
        self._shard = folder / f"{self._rank}.jsonl"
        self._counted: dict[Path, tuple[int, int]] = {}

    def open(self) -> None:
        """Make the folder, or cut every file that a kill has left in it to its complete rows."""
        if self._rank == 0:
            self._folder.mkdir(exist_ok=True)
            for file in self._files():
                truncate_rows(file, lambda row: "index" in row)
        team.barrier()

    def to_do(self, count: int) -> Iterator[list[int]]:
        """Yield, block by block, those of `count` items that no file holds and that this process must do."""
        done = {row["index"] for row in self.rows()}
        for start in range(self._rank * BLOCK, count, self._processes * BLOCK):
            block = range(start, min(start + BLOCK, count))
            missing = [index for index in block if index not in done]
            if missing:
                yield missing

    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add rows to this process's file, in one piece."""
        write_rows(self._shard, rows, "a", ascii_only=True)

    def rows(self) -> list[dict[str, Any]]:
        """Return the complete rows of all files."""
        rows = []
        for file in self._files():
            rows += read_rows(file)
        return rows

    def merged(self, count: int, items: str) -> list[dict[str, Any]]:
        """Return the rows of all items by index.

        Args:
            count: the number of items.
            items: what they are, for the message.

        Raises:
            ValueError: the files do not hold exactly these items.
        """
        by_index = {row["index"]: row for row in self.rows()}
        if sorted(by_index) != list(range(count)):
            raise ValueError(
                f"the rows in {self._folder} are not those of {count} {items}: delete it and run the same"
                " command again"
            )
        return [by_index[index] for index in range(count)]

    def count(self) -> int:
        """Return the number of complete rows. What was counted before is not read again."""
        for file in self._files():
            end, lines = self._counted.get(file, (0, 0))
            with file.open("rb") as stream:
                stream.seek(end)
                added = stream.read()
            self._counted[file] = end + len(added), lines + added.count(b"\n")
        return sum(lines for _, lines in self._counted.values())

    def _files(self) -> list[Path]:
        return sorted(self._folder.glob("*.jsonl"))
