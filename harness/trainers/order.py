"""The items of each step: shuffled epochs, computed from the step alone, so that resuming needs no state."""

from __future__ import annotations

import random
from array import array
from functools import lru_cache
from typing import Protocol, TypeVar

from harness.seeds import derive

Item = TypeVar("Item")
Item_co = TypeVar("Item_co", covariant=True)


class Items(Protocol[Item_co]):
    """A collection with numbered items: a list, or a file of millions."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Item_co: ...


def batch(items: Items[Item], size: int, step: int, seed: int) -> list[Item]:
    """The `size` items of `step`; an epoch shows every item once, and a batch may span two epochs."""
    chosen: list[Item] = []
    position = step * size
    while len(chosen) < size:
        epoch, offset = divmod(position + len(chosen), len(items))
        indices = _order(len(items), epoch, seed)[offset : offset + size - len(chosen)]
        chosen += [items[index] for index in indices]
    return chosen


@lru_cache(maxsize=2)
def _order(count: int, epoch: int, seed: int) -> array[int]:
    """The numbers below `count`, shuffled. Millions take seconds and 8 bytes each, hence the cache."""
    order = array("q", range(count))
    random.Random(derive(seed, "epoch", epoch)).shuffle(order)
    return order
