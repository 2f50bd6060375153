"""The role of `data=`: the records that SFT imitates."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from harness.types import Record


class Entry(Protocol):
    """A record of training data that has not been read yet."""

    @property
    def place(self) -> str:
        """The file and row of the record, for messages."""
        ...

    def load(self, size: tuple[int, int]) -> Record:
        """The record, with an image of that width and height; called by several threads.

        Raises:
            ValueError: the record cannot be used; the message says why.
        """
        ...


class TrainingData(Protocol):
    """The `data=` component. Its constructor runs at planning and refuses files that do not exist."""

    endless: bool
    """True for a stream that a seed decides and that needs a limit; False for files."""

    external: Sequence[str]
    """Files that count by content (see `Stage`)."""

    listing: Sequence[tuple[str, int]]
    """Name and size of files that are too large to count by content."""

    max_bad_share: float
    """Largest allowed share of unusable entries."""

    def count(self, limit: int | None) -> int:
        """The number of entries, at most `limit` (None: all)."""
        ...

    def entries(self, seed: int | None, count: int) -> Iterable[Entry]:
        """The first `count` entries, always the same ones in the same order; the seed is None for files."""
        ...
