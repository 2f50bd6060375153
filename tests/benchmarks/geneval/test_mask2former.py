"""Mask2Former on a tiny random one: what goes in, and its instance rule beside one written out
pixel by pixel.
"""

from __future__ import annotations

import math

import mini_geneval
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from benchmarks.geneval.models import mask2former
from benchmarks.geneval.models.mask2former import (
    HUB,
    MEAN,
    STD,
    Instances,
    Mask2Former,
    fitted_size,
    instances,
    padded_size,
    prepared_3HW,
    tight_box,
)

torch.set_num_threads(1)
SERVING = {"device": "cpu", "batch_size": 2}
WHERE = "benchmarks.scoring.detector"
NAMES = [f"thing {number}" for number in range(80)]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mask2former")
    mini_geneval.write_mask2former(folder)
    return folder


@pytest.fixture(scope="module")
def detector(folder):
    return Mask2Former(model=str(folder), serving=SERVING, where=WHERE)


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


def naive_resize(map_HW: np.ndarray, width: int, height: int) -> np.ndarray:
    """Bilinear with pixel centres at halves, in float64: each axis by its matrix of weights."""

    def weights(new: int, old: int) -> np.ndarray:
        matrix = np.zeros((new, old))
        for row in range(new):
            place = max((row + 0.5) * old / new - 0.5, 0)
            first = min(int(place), old - 1)
            matrix[row, first] += 1 - (place - first)
            matrix[row, min(first + 1, old - 1)] += place - first
        return matrix

    return weights(height, map_HW.shape[0]) @ map_HW @ weights(width, map_HW.shape[1]).T


def naive_rule(
    classes_QK: np.ndarray, masks_Qhw: np.ndarray, size: tuple[int, int]
) -> list[tuple[float, int, list[int], np.ndarray]]:
    """Score, class, box and mask in the whole picture of the 100 best pairs, by falling score."""
    (width, height), (fitted_width, fitted_height) = size, fitted_size(*size)
    pairs = []
    for query, logits in enumerate(classes_QK.astype(np.float64)):
        powers = [math.exp(value - max(logits)) for value in logits]
        pairs += [(power / sum(powers), query, label) for label, power in enumerate(powers[:-1])]
    found = []
    for probability, query, label in sorted(pairs, key=lambda pair: -pair[0])[:100]:
        padded = naive_resize(masks_Qhw[query].astype(np.float64), *padded_size(fitted_width, fitted_height))
        logits = naive_resize(padded[:fitted_height, :fitted_width], width, height)
        box, total, count = [width, height, -1, -1], 0.0, 0
        for y in range(height):
            for x in range(width):
                if logits[y, x] > 0:
                    box = [min(box[0], x), min(box[1], y), max(box[2], x), max(box[3], y)]
                    total, count = total + 1 / (1 + math.exp(-logits[y, x])), count + 1
        box = [box[0], box[1], box[2] + 1, box[3] + 1] if count else [0, 0, 0, 0]
        found.append((probability * total / (count + 1e-6), label, box, logits > 0))
    return sorted(found, key=lambda one: -one[0])


def logits(size: tuple[int, int], seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Of five queries: sure classes, smooth masks; the second sees nothing, the third everything."""
    generator = torch.Generator().manual_seed(seed)
    width, height = padded_size(*fitted_size(*size))
    small_Qhw = torch.randn(5, 1, 4, 4, generator=generator)
    masks_Qhw = (
        3 * torch.nn.functional.interpolate(small_Qhw, (height // 4, width // 4), mode="bicubic")[:, 0]
    )
    masks_Qhw[1], masks_Qhw[2] = -1, 2
    return 4 * torch.randn(5, 81, generator=generator), masks_Qhw


def test_sizes_are_mmdets():
    assert [
        fitted_size(*size)
        for size in ((512, 512), (1024, 1024), (640, 480), (500, 375), (427, 640), (2000, 500))
    ] == [
        (800, 800),
        (800, 800),
        (1067, 800),
        (1067, 800),
        (800, 1199),
        (1333, 333),
    ]
    assert [padded_size(*size) for size in ((800, 800), (1067, 800), (1333, 333), (1, 32))] == [
        (800, 800),
        (1088, 800),
        (1344, 352),
        (32, 32),
    ]
    assert fitted_size(1, 1) == (800, 800) and fitted_size(20_000, 1) == (1333, 1), (
        "mmdet makes no row of the second"
    )


@pytest.mark.parametrize("size", [(60, 5), (5, 60), (3000, 40), (1, 1)])
def test_a_picture_is_resized_to_whole_levels_normalised_and_padded_with_nothing(size):
    image = picture(*size)
    width, height = fitted_size(*size)
    padded_width, padded_height = padded_size(width, height)
    found = prepared_3HW(image, CPU).numpy()
    assert found.shape == (3, padded_height, padded_width)
    assert not found[:, height:].any() and not found[:, :, width:].any()
    for channel in range(3):
        wanted = naive_resize(np.asarray(image)[:, :, channel].astype(np.float64), width, height)
        levels = found[channel, :height, :width] * STD[channel] + MEAN[channel]
        assert np.abs(levels - levels.round()).max() < 1e-4, "as OpenCV's, which are bytes"
        assert np.abs(levels - wanted).max() <= 0.501


@pytest.mark.parametrize("size", [(60, 5), (23, 31), (1, 1), (30, 1)])
def test_the_rule_is_the_one_written_out(size):
    classes_QK, masks_Qhw = logits(size, seed=sum(size))
    every = naive_rule(classes_QK.numpy(), masks_Qhw.numpy(), size)
    for above in (0.0, 0.3):
        wanted = [one for one in every if one[0] > above]
        found = instances(classes_QK, masks_Qhw, size, NAMES, above)
        assert found.frame == size and found.scores == pytest.approx(
            [score for score, *_ in wanted], abs=1e-5
        )
        assert found.labels == tuple(NAMES[label] for _, label, _, _ in wanted)
        assert found.boxes == tuple(tuple(box) for _, _, box, _ in wanted)
        for (x1, y1, x2, y2), mask, (*_, whole) in zip(found.boxes, found.masks, wanted, strict=True):
            assert np.array_equal(mask, whole[y1:y2, x1:x2]) and whole.sum() == mask.sum()
        assert list(found.scores) == sorted(found.scores, reverse=True)
    assert len(every) == 100 and len(found.scores) < len(every)
    assert all(box == [0, 0, 0, 0] and score == 0 for score, _, box, mask in every if not mask.any())


def test_a_query_can_be_two_things_and_the_same_thing_can_be_found_twice():
    classes_QK, masks_Qhw = torch.full((2, 81), -20.0), torch.full((2, 200, 200), 9.0)
    classes_QK[0, 3], classes_QK[0, 7], classes_QK[1, 7] = 5.0, 5.0, 5.0
    found = instances(classes_QK, masks_Qhw, (4, 4), NAMES, 0.3)
    assert found.labels == ("thing 7", "thing 3", "thing 7") and found.boxes == ((0, 0, 4, 4),) * 3
    assert found.scores == pytest.approx((1.0, 0.5, 0.5), abs=1e-3) and found.masks[1] is not None


def test_what_is_most_likely_no_object_is_none_and_a_score_must_be_above_the_limit():
    classes_QK, masks_Qhw = torch.full((1, 81), -20.0), torch.full((1, 200, 200), 50.0)
    classes_QK[0, 80] = 5.0
    assert instances(classes_QK, masks_Qhw, (4, 4), NAMES, 0.0).scores[0] < 1e-9
    classes_QK[0, 0] = 5.0
    assert instances(classes_QK, masks_Qhw, (4, 4), NAMES, 0.5).labels == ()
    assert instances(classes_QK, masks_Qhw, (4, 4), NAMES, 0.4999).labels == ("thing 0",)


def test_improbable_pairs_cost_no_mask(monkeypatch):
    made: list[int] = []
    monkeypatch.setattr(
        mask2former,
        "_mask",
        lambda mask_hw, size, real=mask2former._mask: made.append(1) or real(mask_hw, size),
    )
    classes_QK, masks_Qhw = torch.zeros(100, 81), torch.ones(100, 200, 200)
    assert instances(classes_QK, masks_Qhw, (4, 4), NAMES, 0.3).scores == () and not made


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 6), st.integers(1, 6), st.data())
def test_a_box_holds_its_mask_and_no_row_or_column_too_many(height, width, data):
    mask = np.array(
        data.draw(
            st.lists(
                st.lists(st.booleans(), min_size=width, max_size=width), min_size=height, max_size=height
            )
        )
    )
    x1, y1, x2, y2 = tight_box(mask)
    inside = mask[y1:y2, x1:x2]
    assert inside.sum() == mask.sum()
    assert (
        (x1, y1, x2, y2) == (0, 0, 0, 0)
        if not mask.any()
        else all(inside[edge].any() for edge in np.s_[0, -1])
    )
    assert not mask.any() or (inside[:, 0].any() and inside[:, -1].any())


@pytest.mark.parametrize("batch", [1, 8])
def test_pictures_together_are_what_they_are_alone(folder, detector, batch):
    images = [
        picture(*size, seed)
        for seed, size in enumerate(((90, 7), (90, 7), (91, 7), (7, 90), (7, 90), (90, 7)))
    ]
    together = Mask2Former(model=str(folder), serving={**SERVING, "batch_size": batch}, where=WHERE).detect(
        images, NAMES, above=0.3
    )
    assert len({found.scores for found in together}) == len(images) and all(
        found.scores for found in together
    )
    for image, found in zip(images, together, strict=True):
        (alone,) = detector.detect([image], NAMES, above=0.3)
        assert found.frame == image.size and (found.labels, found.boxes) == (alone.labels, alone.boxes)
        assert found.scores == pytest.approx(alone.scores, abs=1e-5)
        assert all(np.mean(one == other) > 0.99 for one, other in zip(found.masks, alone.masks, strict=True))
    assert detector.detect([], NAMES, above=0.3) == []


def test_the_whole_is_the_parts(folder, detector):
    from transformers import Mask2FormerForUniversalSegmentation

    model, image = Mask2FormerForUniversalSegmentation.from_pretrained(folder).eval(), picture(70, 6)
    with torch.no_grad():
        output = model(pixel_values=prepared_3HW(image, CPU)[None])
    assert output.class_queries_logits.shape == (1, 6, 81) and output.masks_queries_logits.shape == (
        1,
        6,
        32,
        336,
    )
    wanted = naive_rule(
        output.class_queries_logits[0].numpy(), output.masks_queries_logits[0].numpy(), image.size
    )
    (found,) = detector.detect([image], NAMES, above=0.3)
    assert (
        found.scores == pytest.approx([score for score, *_ in wanted if score > 0.3], abs=1e-4)
        and len(found.scores) > 2
    )


def test_a_picture_is_turned_as_its_exif_says_and_read_as_rgb(detector):
    upright = picture(60, 5)
    turned = upright.transpose(Image.Transpose.ROTATE_90)
    turned.getexif()[0x0112] = 6  # to be turned by 90 degrees clockwise
    (wanted,), (found,) = (
        detector.detect([upright], NAMES, above=0.3),
        detector.detect([turned], NAMES, above=0.3),
    )
    assert (found.frame, found.scores) == ((60, 5), wanted.scores)
    grey = upright.convert("L")
    (plain,) = detector.detect([grey.convert("RGB")], NAMES, above=0.3)
    for odd in (grey, grey.convert("RGBA"), grey.convert("P")):
        assert detector.detect([odd], NAMES, above=0.3)[0].scores == plain.scores


@pytest.mark.parametrize("size", [(1, 1), (2, 900)])
def test_the_smallest_and_the_longest_pictures_are_looked_at(detector, size):
    (found,) = detector.detect([picture(*size)], NAMES, above=0.0)
    assert found.frame == size and all(
        0 <= x1 < x2 <= size[0] and 0 <= y1 < y2 <= size[1] for x1, y1, x2, y2 in found.boxes
    )


def test_the_name_tells_the_hubs_weights_from_others():
    assert Mask2Former(model=HUB, serving=SERVING, where=WHERE).name == "Mask2Former (HF)"
    assert Mask2Former(model="somebody/finer", serving=SERVING, where=WHERE).name == "Mask2Former (finer)"


def test_what_is_missing_says_which_model_how_large_and_what_to_set(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert Mask2Former(model=str(folder), serving=SERVING, where=WHERE).missing() == []
    absent = Mask2Former(model=HUB, serving=SERVING, where=WHERE)
    (told,) = absent.missing()
    for part in (
        f"{WHERE}.model={HUB}",
        f"hf download {HUB} --local-dir FOLDER",
        f"{WHERE}.model=FOLDER",
        "0.28 GB",
        "mmdet",
    ):
        assert part in told
    with pytest.raises(ValueError, match=f"{WHERE}.model={HUB}: no .* could be loaded from there"):
        absent.load()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": ""}, f"{WHERE}.model='': give a hub id or a folder"),
        ({"model": "/nowhere/found"}, f"{WHERE}.model=/nowhere/found: there is no such folder"),
        ({"serving": {"device": "cpu"}}, f"{WHERE}.serving has device: it takes device and batch_size"),
        (
            {"serving": {"device": "cpu", "batch_size": 0}},
            f"{WHERE}.serving.batch_size=0: give a whole number from 1",
        ),
    ],
)
def test_a_setting_that_cannot_be_is_refused_when_it_is_planned(change, words):
    with pytest.raises(ValueError) as error:
        Mask2Former(**{"model": HUB, "serving": SERVING, "where": WHERE, **change})
    assert words in str(error.value)


def test_other_classes_than_those_named_are_refused(detector):
    with pytest.raises(
        ValueError,
        match=f"tells 80 classes apart, and 79 are named: give weights for COCO's 80 things, such as {HUB}",
    ):
        detector.detect([picture(60, 5)], NAMES[:-1], above=0.3)


def test_another_model_is_refused(tmp_path):
    mini_geneval.write_clip_l(tmp_path)
    with pytest.raises(
        ValueError, match="is of type clip, and a Mask2FormerForUniversalSegmentation is wanted"
    ):
        Mask2Former(model=str(tmp_path), serving=SERVING, where=WHERE).load()


def test_damaged_weights_are_no_empty_picture(folder):
    detector = Mask2Former(model=str(folder), serving=SERVING, where=WHERE)
    detector._model.class_predictor.bias.data[0] = float("nan")
    with pytest.raises(ValueError, match="the weights give no finite numbers: they are damaged"):
        detector.detect([picture(60, 5)], NAMES, above=0.3)


def test_every_box_has_a_mask():
    with pytest.raises(ValueError, match="0 masks and 1 boxes: each box has a mask"):
        Instances(frame=(4, 4), labels=("dog",), boxes=((0, 0, 1, 1),), scores=(0.5,), masks=())
