"""Which items a step sees: shuffled epochs computed from the step alone, so that resuming needs no state."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

from harness.seeds import derive

Item = TypeVar("Item")


def batch(items: Sequence[Item], size: int, step: int, seed: int) -> list[Item]:
    """The `size` items of `step`; an epoch shows every item once, and a batch may span two epochs."""
    chosen: list[Item] = []
    place = step * size
    while len(chosen) < size:
        epoch, offset = divmod(place + len(chosen), len(items))
        order = list(range(len(items)))
        random.Random(derive(seed, "epoch", epoch)).shuffle(order)
        chosen += [items[index] for index in order[offset : offset + size - len(chosen)]]
    return chosen
