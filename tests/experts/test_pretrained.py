"""What the frozen models share."""

from __future__ import annotations

import pytest
import torch

from harness.experts.pretrained import by_halves


def room_for(count: int, seen: list[int]):
    """Looks at no more than `count` at once."""

    def look(items):
        seen.append(len(items))
        if len(items) > count:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return [2 * item for item in items]

    return look


def test_what_does_not_fit_is_looked_at_by_halves():
    seen: list[int] = []
    assert by_halves(room_for(3, seen), range(10)) == [2 * item for item in range(10)]
    assert seen == [10, 5, 2, 3, 5, 2, 3]


def test_one_that_does_not_fit_is_an_error():
    with pytest.raises(torch.OutOfMemoryError):
        by_halves(room_for(0, []), [1, 2])
