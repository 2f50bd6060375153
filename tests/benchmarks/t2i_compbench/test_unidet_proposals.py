"""The region proposal network, held against the plain loops over levels, cells and anchors."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from benchmarks.t2i_compbench.models.unidet import proposals
from benchmarks.t2i_compbench.models.unidet.boxes import clip, decode, overlaps
from benchmarks.t2i_compbench.models.unidet.proposals import ProposalGenerator, RpnHead, anchors

torch.set_num_threads(1)
SIZES = [(40, 64), (64, 50)]


@pytest.fixture
def generator() -> ProposalGenerator:
    torch.manual_seed(3)
    made = ProposalGenerator(4).eval()
    for weights in made.parameters():
        torch.nn.init.normal_(weights, std=0.3)
    return made


def levels(batch: int = 2) -> list[Tensor]:
    noise = torch.Generator().manual_seed(4)
    return [
        torch.randn(batch, 4, max(1, 5 >> place), max(1, 6 >> place), generator=noise) for place in range(5)
    ]


def naive_anchors(rows: int, columns: int, stride: int) -> list[list[float]]:
    found = []
    for row in range(rows):
        for column in range(columns):
            for octave in (0, 1 / 3, 2 / 3):
                for ratio in (0.5, 1, 2):
                    side = 4 * stride * 2**octave
                    width = math.sqrt(side**2 / ratio)
                    x, y, height = column * stride, row * stride, width * ratio
                    found.append([x - width / 2, y - height / 2, x + width / 2, y + height / 2])
    return found


def naive_proposals(
    generator: ProposalGenerator, maps: list[Tensor], image: int, per_level: int, per_image: int
) -> list[tuple[float, list]]:
    """(logit, box) of what stays, best first."""
    stays: list[tuple[float, list]] = []
    for level_BCHW, stride in zip(maps, (8, 16, 32, 64, 128), strict=True):
        hidden = generator.rpn_head.conv(level_BCHW[image : image + 1]).relu()
        logits, deltas = (
            generator.rpn_head.objectness_logits(hidden)[0],
            generator.rpn_head.anchor_deltas(hidden)[0],
        )
        cells = iter(naive_anchors(*level_BCHW.shape[2:], stride))
        found = []
        for row in range(level_BCHW.shape[2]):
            for column in range(level_BCHW.shape[3]):
                for anchor in range(9):
                    box = decode(
                        deltas[4 * anchor : 4 * anchor + 4, row, column][None], torch.tensor([next(cells)])
                    )
                    found.append((logits[anchor, row, column].item(), clip(box, SIZES[image])[0].tolist()))
        found = sorted(found, key=lambda pair: -pair[0])[:per_level]
        kept: list[tuple[float, list]] = []
        for logit, (x1, y1, x2, y2) in found:
            rivals_N4 = torch.tensor([other for _, other in kept]).reshape(-1, 4)
            if (
                x2 > x1
                and y2 > y1
                and not (overlaps(torch.tensor([[x1, y1, x2, y2]]), rivals_N4) > 0.7).any()
            ):
                kept.append((logit, [x1, y1, x2, y2]))
        stays += kept
    return sorted(stays, key=lambda pair: -pair[0])[:per_image]


@pytest.mark.parametrize(("rows", "columns", "stride"), [(1, 1, 8), (2, 3, 16), (3, 2, 128)])
def test_anchors_lie_about_the_corners_of_cells(rows, columns, stride):
    found_N4 = anchors(rows, columns, stride)
    assert torch.allclose(found_N4, torch.tensor(naive_anchors(rows, columns, stride)), atol=1e-4)


def test_anchors_have_five_octaves_of_areas():
    for stride, side in zip(proposals.STRIDES, (32, 64, 128, 256, 512), strict=True):
        box = anchors(1, 1, stride)[1]
        assert box.tolist() == [-side / 2, -side / 2, side / 2, side / 2]


def test_numbers_come_in_the_order_of_the_anchors():
    """Row, column, anchor; of an anchor the four deltas lie together."""
    head = RpnHead(1).eval()
    for layer in (head.conv, head.objectness_logits, head.anchor_deltas):
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    head.conv.weight.data[0, 0, 1, 1] = 1
    head.objectness_logits.weight.data.fill_(1)
    head.objectness_logits.bias.data = torch.arange(9) / 10
    head.anchor_deltas.bias.data = torch.arange(36.0)
    with torch.inference_mode():
        logits_1N, deltas_1N4 = head(torch.tensor([[[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]]]))
    assert torch.allclose(logits_1N[0], (torch.arange(1.0, 7)[:, None] + torch.arange(9) / 10).flatten())
    assert torch.equal(deltas_1N4[0], torch.arange(36.0).reshape(9, 4).repeat(6, 1))


@pytest.mark.parametrize(("per_level", "per_image"), [(1000, 1000), (40, 1000), (1000, 25), (40, 25)])
def test_proposals_are_those_of_the_plain_loops(generator, monkeypatch, per_level, per_image):
    monkeypatch.setattr(proposals, "PER_LEVEL", per_level)
    monkeypatch.setattr(proposals, "PER_IMAGE", per_image)
    with torch.inference_mode():
        found = generator(levels(), SIZES)
        for image, (boxes_N4, logits_N) in enumerate(found):
            expected = naive_proposals(generator, levels(), image, per_level, per_image)
            assert torch.allclose(logits_N, torch.tensor([logit for logit, _ in expected]), atol=1e-5)
            assert torch.allclose(boxes_N4, torch.tensor([box for _, box in expected]), atol=1e-3)


def test_images_of_a_batch_do_not_matter_to_one_another(generator):
    with torch.inference_mode():
        together = generator(levels(), SIZES)
        for image, (boxes_N4, logits_N) in enumerate(together):
            [(boxes_alone_N4, logits_alone_N)] = generator(
                [level[image : image + 1] for level in levels()], SIZES[image : image + 1]
            )
            assert torch.allclose(boxes_N4, boxes_alone_N4, atol=1e-3)
            assert torch.allclose(logits_N, logits_alone_N, atol=1e-5)


def test_boxes_end_where_the_image_does(generator):
    with torch.inference_mode():
        for (boxes_N4, _), (height, width) in zip(generator(levels(), SIZES), SIZES, strict=True):
            assert boxes_N4.min() == 0
            assert boxes_N4[:, 2].max() == width
            assert boxes_N4[:, 3].max() == height


def test_features_that_are_no_numbers_are_refused(generator):
    maps = levels()
    maps[2][1, 0, 0, 0] = math.nan
    with torch.inference_mode(), pytest.raises(FloatingPointError, match="not finite"):
        generator(maps, SIZES)
