"""Which groups a step keeps when it draws again."""

from __future__ import annotations

from harness.trainers.resample import filled, first_live

BATCHES = [[False, True, False], [False, False, False], [True, True, False], [True, True, True]]


def test_live_groups_are_kept_in_drawing_order_and_the_surplus_is_not() -> None:
    assert first_live(BATCHES, 3) == [(0, 1), (2, 0), (2, 1)]
    assert first_live(BATCHES, 2) == [(0, 1), (2, 0)]


def test_fewer_are_kept_where_there_are_not_enough() -> None:
    assert first_live(BATCHES[:2], 3) == [(0, 1)]
    assert first_live([], 3) == []


def test_dead_groups_of_the_first_batch_fill_a_step_up() -> None:
    assert filled([(0, 1)], 3, 3) == [(0, 1), (0, 0), (0, 2)]
    assert filled([(0, 1), (2, 0)], 3, 3) == [(0, 1), (2, 0), (0, 0)]
    assert filled([], 3, 3) == [(0, 0), (0, 1), (0, 2)]
