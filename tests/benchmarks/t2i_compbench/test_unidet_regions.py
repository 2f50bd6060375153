"""ROIAlign held against the plain loop over cells, samples and corners; the rule of levels; the box heads."""

from __future__ import annotations

import math
import types

import pytest
import torch
from torch import Tensor

from benchmarks.t2i_compbench.models.unidet import regions
from benchmarks.t2i_compbench.models.unidet.regions import box_head, level_of, read_regions, roi_align
from benchmarks.t2i_compbench.models.unidet.sizes import Sizes

torch.set_num_threads(1)
BOXES = {
    "inside": [9.0, 10.0, 60.0, 45.0],
    "whole": [0.0, 0.0, 88.0, 64.0],
    "less than a cell": [33.0, 17.5, 34.0, 18.0],
    "a line": [8.0, 8.0, 8.0, 40.0],
    "nothing": [16.0, 16.0, 16.0, 16.0],
    "long": [1.0, 30.0, 87.0, 33.0],
    "beyond the border": [-30.0, -20.0, 130.0, 100.0],
    "outside": [200.0, 200.0, 260.0, 230.0],
    "turned round": [60.0, 45.0, 9.0, 10.0],
}


def bilinear(level_CHW: Tensor, y: float, x: float) -> Tensor:
    """The value between the four places about (y, x)."""
    _, height, width = level_CHW.shape
    if y < -1 or y > height or x < -1 or x > width:
        return torch.zeros(len(level_CHW))
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    top, left = min(int(y), height - 1), min(int(x), width - 1)
    below, right = min(top + 1, height - 1), min(left + 1, width - 1)
    down, across = y - top, x - left
    upper_C = (1 - across) * level_CHW[:, top, left] + across * level_CHW[:, top, right]
    lower_C = (1 - across) * level_CHW[:, below, left] + across * level_CHW[:, below, right]
    return (1 - down) * upper_C + down * lower_C


def naive_align(level_CHW: Tensor, box: list[float], stride: int) -> Tensor:
    x1, y1, x2, y2 = (number / stride - 0.5 for number in box)
    high, wide = (y2 - y1) / 7, (x2 - x1) / 7
    rows, columns = math.ceil(high), math.ceil(wide)
    cells_C77 = torch.zeros(len(level_CHW), 7, 7)
    for p in range(7):
        for q in range(7):
            for row in range(rows):
                for column in range(columns):
                    y, x = y1 + (p + (row + 0.5) / rows) * high, x1 + (q + (column + 0.5) / columns) * wide
                    cells_C77[:, p, q] += bilinear(level_CHW, y, x) / (rows * columns)
    return cells_C77


def level(channels: int, height: int, width: int) -> Tensor:
    return torch.randn(channels, height, width, generator=torch.Generator().manual_seed(7))


def sizes(variant: str) -> Sizes:
    return Sizes(
        variant=variant,
        stem=(2,),
        blocks=(1,) * 4,
        widths=(2,) * 4,
        outputs=(2,) * 4,
        features=3,
        hidden=5,
        classes=4,
    )


@pytest.fixture(autouse=True)
def no_torchvision(monkeypatch):
    monkeypatch.setattr(regions, "torchvision_ops", lambda device: None)


@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES.keys())
@pytest.mark.parametrize("stride", [2, 8])
def test_cells_are_those_of_the_plain_loop(box, stride):
    level_CHW = level(3, 8, 11)
    found_1C77 = roi_align(level_CHW, torch.tensor([box]), stride)
    assert torch.allclose(found_1C77[0], naive_align(level_CHW, box, stride), atol=1e-5)


def test_boxes_do_not_matter_to_one_another():
    level_CHW, boxes_N4 = level(3, 8, 11), torch.tensor([*BOXES.values()])
    together = roi_align(level_CHW, boxes_N4, 4)
    for place in range(len(boxes_N4)):
        assert torch.allclose(
            together[place], roi_align(level_CHW, boxes_N4[place : place + 1], 4)[0], atol=1e-6
        )


def test_a_ramp_is_read_at_the_middles_of_cells():
    """Where the value is the place itself, a cell's mean is its middle: shifted by half a place."""
    ramp_1HW = torch.arange(40.0).expand(1, 40, 40)
    cells_77 = roi_align(ramp_1HW, torch.tensor([[16.0, 16.0, 128.0, 128.0]]), 8)[0, 0]
    assert torch.allclose(cells_77, torch.tensor([2.5, 4.5, 6.5, 8.5, 10.5, 12.5, 14.5]).expand(7, 7))


@pytest.mark.parametrize(
    ("side", "place"), [(0, 0), (16, 0), (223.9, 0), (224, 1), (447.9, 1), (448, 2), (5000, 2)]
)
def test_larger_boxes_are_read_from_higher_levels(side, place):
    assert level_of(torch.tensor([[0.0, 0.0, side, side], [0.0, 0.0, side / 2, 2 * side]])).tolist() == [
        place,
        place,
    ]


def test_every_box_is_read_from_its_level_in_its_place(monkeypatch):
    monkeypatch.setattr(regions, "CHUNK", 2)
    maps = [torch.full((3, 64 >> place, 64 >> place), float(place)) for place in range(3)]
    sides = torch.tensor([500.0, 10, 230, 20, 480, 300, 30, 250])
    boxes_N4 = torch.stack([torch.zeros(8), torch.zeros(8), sides, sides], dim=1)
    found_NCPP = read_regions(maps, boxes_N4)
    assert found_NCPP.shape == (8, 3, 7, 7)
    assert torch.allclose(
        found_NCPP, torch.tensor([2.0, 0, 1, 0, 2, 1, 0, 1])[:, None, None, None].expand_as(found_NCPP)
    )


def test_no_box_is_no_region():
    assert read_regions(
        [level(3, 8 >> place, 8 >> place) for place in range(3)], torch.zeros(0, 4)
    ).shape == (0, 3, 7, 7)


def test_features_of_half_precision_stay_so():
    level_CHW, boxes_N4 = level(3, 8, 11), torch.tensor([BOXES["inside"], BOXES["whole"]])
    found = read_regions([level_CHW.bfloat16()] * 3, boxes_N4)
    assert found.dtype == torch.bfloat16
    assert torch.allclose(found.float(), read_regions([level_CHW] * 3, boxes_N4), atol=0.03)


def test_torchvision_is_asked_for_the_same(monkeypatch):
    def plain_align(images, boxes, side, scale, *, sampling_ratio, aligned):
        assert (images.dtype, side, sampling_ratio, aligned) == (torch.float32, 7, 0, True)
        cells = [naive_align(images[0], box, round(1 / scale)) for box in boxes[0].tolist()]
        return torch.stack(cells) if cells else torch.zeros(0, 3, 7, 7)

    maps, boxes_N4 = (
        [level(3, 8 >> place, 11 >> place) for place in range(3)],
        torch.tensor([*BOXES.values()]),
    )
    expected = read_regions(maps, boxes_N4)
    monkeypatch.setattr(
        regions, "torchvision_ops", lambda device: types.SimpleNamespace(roi_align=plain_align)
    )
    assert torch.allclose(read_regions(maps, boxes_N4), expected, atol=1e-5)


def test_heads_have_the_published_names():
    convolutions = {
        f"conv{place}.{part}"
        for place in range(1, 5)
        for part in ("weight", "norm.weight", "norm.running_var")
    }
    linear = {"fc1.weight", "fc1.bias"}
    assert {*box_head(sizes("rs200")).state_dict()} >= convolutions | linear
    assert {*box_head(sizes("r50")).state_dict()} == linear | {"fc2.weight", "fc2.bias"}


@pytest.mark.parametrize("variant", ["rs200", "r50"])
def test_heads_give_a_vector_of_each_region(variant):
    with torch.inference_mode():
        found_NE = box_head(sizes(variant)).eval()(torch.randn(4, 3, 7, 7))
        assert box_head(sizes(variant)).eval()(torch.zeros(0, 3, 7, 7)).shape == (0, 5)
    assert found_NE.shape == (4, 5)
    assert found_NE.min() == 0
