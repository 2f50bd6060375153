"""Sequences keep their order, overlap nowhere, see themselves alone, and fill their rows."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from policies.janus.packing import first_fit, one_per_row, rounded_up, tree

LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=25)


@given(LENGTHS, st.integers(40, 90))
def test_every_sequence_has_slots_of_its_own_within_one_row(lengths: list[int], size: int) -> None:
    layout = first_fit(lengths, size)
    slots = [layout.slots(index, 0, length) for index, length in enumerate(lengths)]
    assert len(torch.cat(slots).unique()) == sum(lengths)
    assert all(len((one // layout.width).unique()) == 1 for one in slots)
    assert layout.width <= size and int(torch.cat(slots).max()) < layout.rows * layout.width
    assert layout == first_fit(lengths, size)


@given(LENGTHS, st.integers(40, 90))
def test_no_two_rows_would_fit_into_one(lengths: list[int], size: int) -> None:
    layout = first_fit(lengths, size)
    filled = [0] * layout.rows
    for start, length in zip(layout.starts, lengths, strict=True):
        filled[start // layout.width] += length
    smallest = sorted(filled)[:2]
    assert len(smallest) < 2 or sum(smallest) > size


@given(LENGTHS)
def test_a_query_sees_its_own_sequence_up_to_itself(lengths: list[int]) -> None:
    layout = first_fit(lengths, 60)
    allowed, positions = layout.allowed(torch.device("cpu")), layout.positions(torch.device("cpu"))
    seen = allowed[:, 0].flatten(0, 1)
    for index, length in enumerate(lengths):
        slots = layout.slots(index, 0, length)
        assert positions.flatten()[slots].tolist() == list(range(length))
        own = seen[slots][:, slots % layout.width]
        assert torch.equal(own, torch.ones(length, length, dtype=torch.bool).tril())
        assert int(seen[slots].sum()) == int(own.sum())
    assert bool(seen.any(dim=1).all()), "padding sees something too, or its softmax would be NaN"


def test_one_per_row_keeps_the_order_and_is_plainly_causal() -> None:
    layout = one_per_row([3, 5, 2])
    assert layout.starts == (0, 5, 10) and (layout.rows, layout.width) == (3, 5)
    assert layout.slots(2, 1, 1).tolist() == [11]
    assert layout.positions(torch.device("cpu")).tolist() == [[0, 1, 2, 3, 4]]
    assert torch.equal(layout.allowed(torch.device("cpu"))[0, 0], torch.ones(5, 5, dtype=torch.bool).tril())


def test_longest_first_into_the_first_row_with_room() -> None:
    layout = first_fit([2, 6, 4, 3], 8)
    assert layout.starts == (6, 0, 8, 12), "6 and 2 share a row, 4 and 3 the other"
    assert (layout.rows, layout.width) == (2, 8)


def test_a_sequence_longer_than_a_row_names_the_setting() -> None:
    with pytest.raises(
        ValueError, match=r"policies\.pack=8: .* has 9 tokens and fits into no row: give at least 9, or null"
    ):
        first_fit([3, 9], 8)


@given(
    st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=6), min_size=1, max_size=8), st.integers(0, 3)
)
def test_tokens_of_a_tree_share_a_slot_if_and_only_if_their_pasts_are_equal(
    texts: list[list[int]], more: int
) -> None:
    layout = tree(texts, more)
    slot_of_past: dict[tuple[int, ...], int] = {}
    for index, ids in enumerate(texts):
        slots = layout.slots(index, 0, len(ids) + more).tolist()
        pasts = [tuple(ids[: end + 1]) for end in range(len(ids))]
        assert layout.shared(index) == sum(past in slot_of_past for past in pasts)
        for past, slot in zip(pasts, slots, strict=False):
            assert slot_of_past.setdefault(past, slot) == slot
        for last, slot in enumerate(slots[len(ids) :]):
            slot_of_past[(index, -1, last)] = slot
        assert layout.positions(torch.device("cpu"))[0, slots].tolist() == list(range(len(ids) + more))
    assert sorted(slot_of_past.values()) == list(range(len(slot_of_past))), "every slot has one past"
    assert layout.width == rounded_up(len(slot_of_past)), "the rest is padding"
