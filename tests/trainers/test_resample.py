"""Which groups a step keeps when it draws again."""

from __future__ import annotations

from harness.trainers.resample import first_live

LIVE = [False, True, False, False, False, False, True, True, False, True]


def test_live_groups_are_kept_in_drawing_order_and_the_surplus_is_not() -> None:
    assert first_live(LIVE, 3) == [1, 6, 7]
    assert first_live(LIVE, 2) == [1, 6]


def test_dead_groups_of_the_first_batch_fill_a_step_up() -> None:
    assert first_live(LIVE[:6], 3) == [1, 0, 2]
    assert first_live(LIVE[:3], 3) == [1, 0, 2]
    assert first_live([False] * 6, 3) == [0, 1, 2]
