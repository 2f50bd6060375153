"""Which items a step sees."""

from __future__ import annotations

import random
from collections import Counter

from harness.seeds import derive
from harness.trainers.order import batch

ITEMS = list("abcdefg")


def test_every_epoch_shows_every_item_once_though_batches_span_epochs() -> None:
    shown = [item for step in range(7) for item in batch(ITEMS, 3, step, seed=1)]
    epochs = [shown[start : start + 7] for start in range(0, 21, 7)]
    assert all(sorted(epoch) == ITEMS for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3, "every epoch has its own order"


def test_a_step_needs_no_state() -> None:
    assert batch(ITEMS, 3, 12, seed=1) == batch(ITEMS, 3, 12, seed=1)
    assert [batch(ITEMS, 3, step, seed=1) for step in range(5)] != [
        batch(ITEMS, 3, step, seed=2) for step in range(5)
    ]


def test_the_order_is_that_of_earlier_runs() -> None:
    assert ["".join(batch(ITEMS, 3, step, seed=1)) for step in range(4)] == ["bag", "fcd", "ebc", "gfe"]
    lists = list(range(1000))
    random.Random(derive(4, "epoch", 2)).shuffle(lists)
    assert batch(range(1000), 1000, 2, seed=4) == lists


def test_a_batch_larger_than_the_items_repeats_them_evenly() -> None:
    counts = Counter(batch("abc", 8, 0, seed=0))
    assert sorted(counts.values()) == [2, 3, 3]
