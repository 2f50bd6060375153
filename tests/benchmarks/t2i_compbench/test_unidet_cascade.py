"""The cascade's three stages, and what becomes a detection, held against the plain loop."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from benchmarks.t2i_compbench.models.unidet.boxes import decode, overlaps
from benchmarks.t2i_compbench.models.unidet.cascade import Cascade, Stage, detections, mean_scores
from benchmarks.t2i_compbench.models.unidet.regions import read_regions
from benchmarks.t2i_compbench.models.unidet.sizes import Sizes

torch.set_num_threads(1)
SIZE = (48, 64)
BOXES = torch.tensor([[3.0, 4.0, 40.0, 30.0], [0.0, 0.0, 64.0, 48.0], [20.0, 20.0, 28.0, 44.0]])
TENTH = torch.tensor(0.1)  # as a float32, which is no more than 0.1


def sizes(variant: str = "r50") -> Sizes:
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


def levels() -> list[Tensor]:
    noise = torch.Generator().manual_seed(9)
    return [torch.randn(3, 8 >> place, 8 >> place, generator=noise) for place in range(3)]


@pytest.fixture(params=["rs200", "r50"])
def cascade(request) -> Cascade:
    torch.manual_seed(2)
    made = Cascade(sizes(request.param)).eval()
    for predictor in made.box_predictor:
        torch.nn.init.normal_(predictor.bbox_pred.bias, std=8)  # far enough to leave the image
    return made


def naive_detections(
    boxes: list[list[float]], scores_NK: Tensor, size: tuple[int, int]
) -> list[tuple[float, int, list[float]]]:
    """(score, class, box) of what is detected, best first; scores must differ."""
    height, width = size
    clipped = [
        [min(max(x1, 0), width), min(max(y1, 0), height), min(max(x2, 0), width), min(max(y2, 0), height)]
        for x1, y1, x2, y2 in boxes
    ]
    kept: list[tuple[float, int, list[float]]] = []
    for label in range(scores_NK.shape[1] - 1):
        of_class: list[tuple[float, int, list[float]]] = []
        for score, box in sorted(zip(scores_NK[:, label].tolist(), clipped, strict=True), reverse=True):
            rivals_N4 = torch.tensor([other for _, _, other in of_class]).reshape(-1, 4)
            if score > 0.1 and not (overlaps(torch.tensor([box]), rivals_N4) > 0.5).any():
                of_class.append((score, label, box))
        kept += of_class
    best = sorted(kept, reverse=True)[:300]
    return [(score, label, box) for score, label, box in best if box[2] > box[0] and box[3] > box[1]]


@pytest.mark.parametrize(("count", "classes"), [(40, 3), (130, 6)])
def test_detections_are_those_of_the_plain_loop(count, classes):
    noise = torch.Generator().manual_seed(count)
    corners_N2 = torch.rand(count, 2, generator=noise) * 80 - 10
    boxes_N4 = torch.cat([corners_N2, corners_N2 + torch.rand(count, 2, generator=noise) * 40], dim=1)
    scores_NK = torch.rand(count, classes + 1, generator=noise) ** 2
    found = detections(boxes_N4, scores_NK, SIZE)
    expected = naive_detections(boxes_N4.tolist(), scores_NK, SIZE)
    assert len(expected) > 40
    assert found.scores_D.tolist() == [score for score, _, _ in expected]
    assert found.classes_D.tolist() == [label for _, label, _ in expected]
    assert torch.allclose(found.boxes_D4, torch.tensor([box for _, _, box in expected]))


def test_only_what_is_above_a_tenth_is_detected_and_never_the_background():
    above, below = torch.nextafter(TENTH, torch.tensor(1.0)), torch.nextafter(TENTH, torch.tensor(0.0))
    found = detections(BOXES, torch.stack([TENTH, above, below])[:, None] * torch.tensor([1.0, 0, 9]), SIZE)
    assert found.boxes_D4.tolist() == BOXES[1:2].tolist()
    assert found.classes_D.tolist() == [0]


def test_one_box_may_be_of_several_classes():
    found = detections(BOXES[:1], torch.tensor([[0.2, 0.0, 0.9, 0.3, 0.0]]), SIZE)
    assert found.classes_D.tolist() == [2, 3, 0]
    assert torch.equal(found.boxes_D4, BOXES[:1].expand(3, 4))


def test_the_better_of_two_near_copies_stays_in_each_class():
    boxes_24 = torch.tensor([[0.0, 0.0, 20.0, 20.0], [1.0, 0.0, 20.0, 20.0]])
    found = detections(boxes_24, torch.tensor([[0.5, 0.6, 0.0], [0.7, 0.2, 0.0]]), SIZE)
    assert found.classes_D.tolist() == [0, 1]
    assert found.boxes_D4.tolist() == boxes_24[[1, 0]].tolist()


def test_at_most_three_hundred_are_detected_and_empty_ones_take_a_place():
    """Boxes outside the image are dropped after the best were chosen, as the official program does."""
    starts = torch.arange(400.0)
    boxes_N4 = torch.stack([starts, torch.zeros(400), starts + 1, torch.ones(400)], dim=1)
    boxes_N4[5] = torch.tensor([-9.0, 0.0, -3.0, 9.0])
    found = detections(boxes_N4, torch.stack([0.9 - starts / 1000, torch.ones(400)], dim=1), (9, 500))
    assert found.boxes_D4[:, 0].tolist() == [start for start in range(300) if start != 5]


def test_nothing_above_a_tenth_is_nothing():
    found = detections(BOXES, torch.zeros(3, 5), SIZE)
    assert [list(part.shape) for part in found] == [[0, 4], [0], [0]]


def test_scores_are_the_mean_of_sigmoids():
    logits = (0.0, 2.0, -1.0)
    stages = [Stage(torch.full((1, 2), logit), torch.zeros(1, 4), torch.zeros(1, 4)) for logit in logits]
    assert mean_scores(stages).tolist()[0] == pytest.approx(
        [sum(1 / (1 + math.exp(-logit)) for logit in logits) / 3] * 2
    )


def test_each_stage_starts_from_the_clipped_boxes_of_the_one_before(cascade):
    weights, start_N4, left = ((10, 10, 5, 5), (20, 20, 10, 10), (30, 30, 15, 15)), BOXES, 0
    with torch.inference_mode():
        stages = cascade.stages(levels(), BOXES, SIZE)
        for place, stage in enumerate(stages):
            hidden_NE = cascade.box_head[place](read_regions(levels(), start_N4))
            predictor = cascade.box_predictor[place]
            assert torch.allclose(stage.logits_NK, predictor.cls_score(hidden_NE), atol=1e-6)
            assert torch.allclose(stage.deltas_N4, predictor.bbox_pred(hidden_NE), atol=1e-5)
            assert torch.allclose(stage.boxes_N4, decode(stage.deltas_N4, start_N4, weights[place]))
            start_N4 = torch.stack(
                [stage.boxes_N4[:, side].clamp(0, SIZE[1 - side % 2]) for side in range(4)], dim=1
            )
            left += int((start_N4 != stage.boxes_N4).any(dim=1).sum())
    assert len(stages) == 3
    assert left > 0  # some did leave the image


def test_the_whole_is_its_parts(cascade):
    with torch.inference_mode():
        stages = cascade.stages(levels(), BOXES, SIZE)
        expected = detections(stages[2].boxes_N4, mean_scores(stages), SIZE)
        found = cascade(levels(), BOXES, SIZE)
    assert len(found.scores_D) > 0
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_no_proposals_are_no_detections(cascade):
    with torch.inference_mode():
        assert len(cascade(levels(), torch.zeros(0, 4), SIZE).scores_D) == 0


@pytest.mark.parametrize("part", ["cls_score", "bbox_pred"])
@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_numbers_that_are_none_are_refused(cascade, part, number):
    getattr(cascade.box_predictor[0], part).bias.data[0] = number
    with torch.inference_mode(), pytest.raises(FloatingPointError, match="not finite"):
        cascade(levels(), BOXES, SIZE)
