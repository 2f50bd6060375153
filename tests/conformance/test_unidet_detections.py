"""UniDet detects what the official detector detected, with weights of a known recipe: each stage
for itself, and the whole.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from unidet_weights import VARIANTS, distance, images, official_state, reference

from benchmarks.t2i_compbench.models.unidet.cascade import Detected, mean_scores
from benchmarks.t2i_compbench.models.unidet.checkpoint import unidet_model

torch.set_num_threads(1)
CLOSE = 1e-4  # of logits and scores; here up to 1e-5
PIXELS = 0.02  # here up to 0.001


@pytest.fixture(scope="module", params=VARIANTS)
def run(request, conformance_dir) -> SimpleNamespace:
    """What the file states, and what our detector gives for the same pictures; it runs once."""
    stated = reference(conformance_dir, request.param)
    fixed = [torch.tensor(boxes) for boxes in stated["fixed_proposals"]["boxes"]]
    model = unidet_model(official_state(conformance_dir, request.param))
    with torch.inference_mode():
        pixels, sizes = model.normalise(images(conformance_dir, request.param))
        levels = model.backbone(pixels)
        proposals = model.propose(levels, sizes)
        of_images = zip(*levels[:3], strict=True)
        return SimpleNamespace(
            stated=stated,
            pixels=pixels,
            levels=levels,
            proposals=proposals,
            fixed_stages=[
                model.roi_heads.stages(*of_image) for of_image in zip(of_images, fixed, sizes, strict=True)
            ],
            fixed_detections=model.cascade(levels, fixed, sizes),
            detections=model.cascade(levels, [boxes for boxes, _ in proposals], sizes),
        )


def close(found: Tensor, stated: list[Any], within: float) -> None:
    torch.testing.assert_close(found, torch.tensor(stated), rtol=0, atol=within)


def check_detections(found: Detected, stated: dict[str, Any]) -> None:
    """As many, the same scores in order, and each stated box there with its class; near-equal
    scores may change places.
    """
    count = len(stated["scores"])
    assert len(found.scores_D) == stated["n"]
    assert found.scores_D.tolist() == sorted(found.scores_D.tolist(), reverse=True)
    close(found.scores_D[:count], stated["scores"], CLOSE)
    boxes_N4, scores_N, classes_N = (torch.tensor(stated[name]) for name in ("boxes", "scores", "classes"))
    same_ND = (boxes_N4[:, None] - found.boxes_D4).abs().amax(dim=2) < PIXELS
    same_ND &= (classes_N[:, None] == found.classes_D) & ((scores_N[:, None] - found.scores_D).abs() < CLOSE)
    assert same_ND.any(dim=1).all()


def test_normalised_and_padded_pixels_are_the_same(run):
    assert list(run.pixels.shape) == run.stated["padded_shape"]
    assert distance(run.pixels, run.stated["input"]) < 1e-6


@pytest.mark.parametrize("place", range(5))
def test_the_pyramid_is_the_same(run, place):
    assert distance(run.levels[place], run.stated["features"][f"p{place + 3}"]) < 1e-5


def test_proposals_are_the_same(run):
    for (boxes_N4, logits_N), stated in zip(run.proposals, run.stated["proposals"], strict=True):
        assert abs(len(boxes_N4) - stated["n"]) <= 2  # overlaps near the limit
        close(boxes_N4[:10], stated["top10_boxes"], PIXELS)
        close(logits_N[:10], stated["top10_logits"], 1e-3)
        assert boxes_N4.sum(dtype=torch.float64).item() == pytest.approx(stated["sum_boxes"], rel=2e-3)


@pytest.mark.parametrize("place", range(3))
def test_stages_are_the_same_for_fixed_proposals(run, place):
    stated, stages = (
        run.stated["fixed_proposals"]["stages"][place],
        [stages[place] for stages in run.fixed_stages],
    )
    assert distance(torch.cat([stage.logits_NK for stage in stages]), stated["logits"]) < 1e-5
    close(torch.cat([stage.deltas_N4 for stage in stages]), stated["deltas"], CLOSE)
    for stage, boxes in zip(stages, stated["boxes"], strict=True):
        close(stage.boxes_N4, boxes, PIXELS)


def test_mean_scores_are_the_same_for_fixed_proposals(run):
    scores_NK = torch.cat([mean_scores(stages) for stages in run.fixed_stages])
    assert distance(scores_NK, run.stated["fixed_proposals"]["mean_scores"]) < 1e-5


def test_detections_are_the_same_for_fixed_proposals(run):
    for found, stated in zip(run.fixed_detections, run.stated["fixed_proposals"]["detections"], strict=True):
        check_detections(found, stated)


def test_detections_are_the_same_for_the_whole_model(run):
    for found, stated in zip(run.detections, run.stated["detections"], strict=True):
        check_detections(found, stated)
