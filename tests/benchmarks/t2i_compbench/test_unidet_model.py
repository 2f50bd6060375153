"""UniDet whole, tiny and random: batches of unequal pictures, and precisions; the numbers are held
in tests/conformance.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from benchmarks.t2i_compbench.models.unidet.model import UniDetModel
from benchmarks.t2i_compbench.models.unidet.sizes import Sizes

torch.set_num_threads(1)
STEMS = {"rs200": (4, 4, 8), "r50": (4,)}


def sizes(variant: str) -> Sizes:
    return Sizes(
        variant=variant,
        stem=STEMS[variant],
        blocks=(1, 1, 1, 1),
        widths=(4, 4, 8, 8),
        outputs=(12, 16, 24, 32),
        features=8,
        hidden=16,
        classes=5,
    )


@pytest.fixture(params=["rs200", "r50"])
def model(request) -> UniDetModel:
    torch.manual_seed(1)
    return UniDetModel(sizes(request.param)).eval().requires_grad_(False)


def picture(height: int, width: int, seed: int = 0) -> Tensor:
    return torch.randint(256, (3, height, width), generator=torch.Generator().manual_seed(seed)).float()


@pytest.mark.parametrize(
    ("variant", "channels"),
    [
        ("rs200", [(-123.68 / 58.393), (-116.779 / 57.12), (-103.939 / 57.375)]),
        ("r50", [-103.53, -116.28, -123.675]),
    ],
)
def test_pixels_are_normalised_first_and_then_padded(variant, channels):
    with torch.device("meta"):
        model = UniDetModel(sizes(variant))
    pixels, shapes = model.normalise([torch.zeros(3, 30, 65), torch.zeros(3, 33, 20)])
    assert pixels.shape == (2, 3, 64, 96)
    assert shapes == [(30, 65), (33, 20)]
    assert torch.allclose(pixels[0, :, 29, 64], torch.tensor(channels))
    assert not pixels[0, :, 30:].any()
    assert not pixels[1, :, :, 20:].any()


def test_a_picture_is_detected_in_the_same_alone_and_among_others(model):
    images = [picture(50, 64, seed) for seed in range(3)]
    with torch.inference_mode():
        together = model(images)
        for image, found in zip(images, together, strict=True):
            [alone] = model([image])
            assert len(found.scores_D) > 0
            assert torch.allclose(found.scores_D, alone.scores_D, atol=1e-5)
            away_DD = (
                (found.boxes_D4[:, None] - alone.boxes_D4).abs().amax(dim=2)
            )  # near-equal scores may change places
            assert away_DD.amin(dim=1).max() < 1e-2


def test_boxes_end_at_each_picture_of_a_batch(model):
    images = [picture(40, 90), picture(64, 30)]
    with torch.inference_mode():
        for image, (boxes_D4, scores_D, classes_D) in zip(images, model(images), strict=True):
            assert boxes_D4.min() >= 0
            assert boxes_D4[:, 2].max() <= image.shape[2]
            assert boxes_D4[:, 3].max() <= image.shape[1]
            assert scores_D.min() > 0.1
            assert 0 <= classes_D.min() <= classes_D.max() < 5


def test_half_precision_gives_boxes_and_scores_in_full(model):
    with torch.inference_mode():
        found = model.bfloat16()([picture(64, 64)])[0]
    assert found.boxes_D4.dtype == found.scores_D.dtype == torch.float32
    assert len(found.scores_D) > 0


def test_a_model_of_no_numbers_is_refused(model):
    next(model.backbone.parameters()).fill_(torch.nan)
    with torch.inference_mode(), pytest.raises(FloatingPointError, match="not finite"):
        model([picture(64, 64)])
