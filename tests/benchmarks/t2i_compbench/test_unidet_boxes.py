"""Boxes: decoding, clipping, overlaps, and the thinning out, held against the plain loop over boxes."""

from __future__ import annotations

import math
import sys
import types

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from benchmarks.t2i_compbench.models.unidet import boxes
from benchmarks.t2i_compbench.models.unidet.boxes import (
    check_finite,
    clip,
    decode,
    is_real,
    nms,
    overlaps,
    torchvision_ops,
)

torch.set_num_threads(1)


def overlap(one: list[float], other: list[float]) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(width, 0) * max(height, 0)
    whole = sum((x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in (one, other)) - shared
    return shared / whole if whole else math.nan


def naive_nms(
    boxes_N4: Tensor, scores_N: Tensor, groups_N: Tensor, threshold: float, limit: int
) -> list[int]:
    kept: list[int] = []
    for place in sorted(range(len(scores_N)), key=lambda place: -scores_N[place].item()):
        rivals = [other for other in kept if groups_N[other] == groups_N[place]]
        if not any(
            overlap(boxes_N4[place].tolist(), boxes_N4[other].tolist()) > threshold for other in rivals
        ):
            kept.append(place)
    return kept[:limit]


@st.composite
def crowds(draw) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes of whole pixels that often overlap, scores with ties, and two groups."""
    count, corner, side = draw(st.integers(0, 40)), st.integers(-3, 12), st.integers(0, 12)
    rows = draw(st.lists(st.tuples(corner, corner, side, side), min_size=count, max_size=count))
    boxes_N4 = torch.tensor(
        [[x, y, x + width, y + height] for x, y, width, height in rows], dtype=torch.float32
    ).reshape(-1, 4)
    scores_N = torch.tensor(
        draw(st.lists(st.integers(-9, 9), min_size=count, max_size=count)), dtype=torch.float32
    )
    groups_N = torch.tensor(
        draw(st.lists(st.integers(0, 1), min_size=count, max_size=count)), dtype=torch.long
    )
    return boxes_N4, scores_N, groups_N


@pytest.fixture
def torchvision(monkeypatch):
    """A torchvision whose `nms` is the plain loop; `asked` says of how many boxes."""
    package, ops = types.ModuleType("torchvision"), types.ModuleType("torchvision.ops")

    def plain_nms(boxes_N4: Tensor, scores_N: Tensor, threshold: float) -> Tensor:
        ops.asked.append(len(boxes_N4))
        return torch.tensor(
            naive_nms(boxes_N4, scores_N, torch.zeros(len(boxes_N4)), threshold, len(boxes_N4)),
            dtype=torch.long,
        )

    package.ops, ops.nms, ops.asked = ops, plain_nms, []
    monkeypatch.setitem(sys.modules, "torchvision", package)
    monkeypatch.setitem(sys.modules, "torchvision.ops", ops)
    torchvision_ops.cache_clear()
    yield ops
    torchvision_ops.cache_clear()


def test_no_delta_leaves_a_box():
    box_14 = torch.tensor([[3.0, 5.0, 11.0, 9.0]])
    assert torch.equal(decode(torch.zeros(1, 4), box_14), box_14)


def test_deltas_move_by_sizes_and_grow_by_powers():
    deltas_14 = torch.tensor([[10.0, -20.0, 5 * math.log(2), 10 * math.log(0.5)]])
    found_14 = decode(deltas_14, torch.tensor([[0.0, 0.0, 8.0, 4.0]]), (10, 20, 5, 10))
    assert torch.allclose(
        found_14, torch.tensor([[4.0, -3.0, 20.0, -1.0]]), atol=1e-5
    )  # centre (12, -2), size 16 x 2


def test_a_box_grows_at_most_so_much():
    found_14 = decode(torch.tensor([[0.0, 0.0, 50.0, 4.0]]), torch.tensor([[-1.0, -1.0, 1.0, 1.0]]))
    assert torch.allclose(found_14[0, 2:], torch.tensor([1000 / 16, math.exp(4)]))


def test_half_precision_is_decoded_in_full():
    deltas_14 = torch.tensor([[0.1, 0.1, 0.1, 0.1]], dtype=torch.bfloat16)
    assert decode(deltas_14, torch.tensor([[0.0, 0.0, 479.0, 479.0]])).dtype == torch.float32


def test_clipping_keeps_to_height_and_width():
    boxes_24 = torch.tensor([[-5.0, -6.0, 50.0, 60.0], [41.0, 3.0, 45.0, 9.0]])
    assert clip(boxes_24, (30, 40)).tolist() == [[0, 0, 40, 30], [40, 3, 40, 9]]


def test_a_real_box_has_both_sides():
    boxes_44 = torch.tensor(
        [[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 0.0, 1.0], [0.0, 0.0, 1.0, 0.0], [2.0, 2.0, 1.0, 1.0]]
    )
    assert is_real(boxes_44).tolist() == [True, False, False, False]


@settings(max_examples=30, deadline=None)
@given(crowds(), crowds())
def test_overlaps_are_those_of_pairs(first, second):
    found_NM = overlaps(first[0], second[0])
    expected = [[overlap(one, other) for other in second[0].tolist()] for one in first[0].tolist()]
    assert torch.allclose(found_NM, torch.tensor(expected).reshape(found_NM.shape), equal_nan=True)


@settings(max_examples=100, deadline=None)
@given(crowds(), st.sampled_from([0.25, 0.5, 0.75]), st.integers(1, 50), st.sampled_from([1, 3, 512]))
def test_thinning_is_that_of_the_plain_loop(crowd, threshold, limit, block):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(boxes, "BLOCK", block)
        patch.setattr(boxes, "torchvision_ops", lambda device: None)
        kept = nms(*crowd, threshold=threshold, limit=limit)
    assert kept.tolist() == naive_nms(*crowd, threshold, limit)


def test_a_chain_of_boxes_is_settled_from_its_best():
    """Each beats the next: every second one stays, which takes as many rounds as there are boxes."""
    starts = torch.arange(60.0)
    boxes_N4 = torch.stack([starts, torch.zeros(60), starts + 3, torch.ones(60)], dim=1)
    kept = nms(boxes_N4, -starts, torch.zeros(60), threshold=0.4, limit=100)
    assert kept.tolist() == list(range(0, 60, 2))


def test_an_overlap_of_just_the_threshold_stays():
    boxes_24 = torch.tensor([[0.0, 0.0, 2.0, 1.0], [0.0, 0.0, 1.0, 1.0]])
    assert nms(boxes_24, torch.tensor([2.0, 1.0]), torch.zeros(2), threshold=0.5, limit=9).tolist() == [0, 1]
    assert nms(boxes_24, torch.tensor([2.0, 1.0]), torch.zeros(2), threshold=0.499, limit=9).tolist() == [0]


def test_boxes_without_area_do_not_beat_each_other():
    assert nms(
        torch.zeros(2, 4), torch.tensor([1.0, 2.0]), torch.zeros(2), threshold=0.5, limit=9
    ).tolist() == [1, 0]


def test_torchvision_thins_out_alike(torchvision):
    noise = torch.Generator().manual_seed(5)
    corners_N2, groups_N = (
        torch.randint(-9, 9, (60, 2), generator=noise),
        torch.randint(722, (60,), generator=noise) // 300,
    )
    boxes_N4 = torch.cat(
        [corners_N2, corners_N2 + torch.randint(1, 9, (60, 2), generator=noise)], dim=1
    ).float()
    crowd = boxes_N4, torch.rand(60, generator=noise), groups_N
    assert nms(*crowd, threshold=0.25, limit=20).tolist() == naive_nms(*crowd, 0.25, 20)
    assert nms(boxes_N4[:0], torch.zeros(0), groups_N[:0], threshold=0.5, limit=20).tolist() == []
    assert torchvision.asked == [1, 60, 0]  # the first is the trial


def test_a_torchvision_that_fails_is_not_used(torchvision, monkeypatch):
    def fails(*_):
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(torchvision, "nms", fails)
    assert torchvision_ops(torch.device("cpu")) is None


def test_torchvision_is_not_asked_to_mark_the_pairs_of_a_multitude(torchvision, monkeypatch):
    monkeypatch.setattr(boxes, "FEW", 2)
    assert nms(torch.zeros(3, 4), torch.zeros(3), torch.zeros(3), threshold=0.5, limit=9).tolist() == [
        0,
        1,
        2,
    ]
    assert torchvision.asked == []


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_what_is_no_number_is_refused(number):
    with pytest.raises(FloatingPointError, match="not finite"):
        check_finite(torch.zeros(2), torch.tensor([0, number]))
