"""The color of an object on a tiny random CLIP, beside the official steps written out one by one."""

from __future__ import annotations

import mini_geneval
import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPModel, CLIPTokenizer

from benchmarks.geneval.models.colors import COLORS, ColorClassifier, Seen, cut_out

torch.set_num_threads(1)
SETTINGS = {
    "dtype": "float32",
    "serving": {"device": "cpu", "batch_size": 3},
    "where": "benchmarks.scoring.colors",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    mini_geneval.write_clip_l(folder)
    return folder


@pytest.fixture(scope="module")
def classifier(folder):
    return ColorClassifier(model=str(folder), **SETTINGS)


def objects(count: int = 12) -> list[Seen]:
    """In noise of a color each, boxes of many shapes, half of whose pixels are the object's."""
    noise = np.random.default_rng(0)
    found = []
    for number in range(count):
        width, height = noise.integers(20, 60, 2).tolist()
        tint = noise.integers(0, 256, 3)
        pixels = np.clip(tint + noise.integers(-40, 40, (height, width, 3)), 0, 255).astype(np.uint8)
        x1, y1 = noise.integers(0, width // 2).item(), noise.integers(0, height // 2).item()
        x2, y2 = noise.integers(x1 + 1, width + 1).item(), noise.integers(y1 + 1, height + 1).item()
        found.append(
            Seen(
                Image.fromarray(pixels),
                noise.random((y2 - y1, x2 - x1)) < 0.5,
                (x1, y1, x2, y2),
                ("dog", "tv remote")[number % 2],
            )
        )
    return found


def naive(folder, seen: Seen) -> dict[str, float]:
    """The cosine of every color: pixel by pixel onto grey, then the library's own way, text by text."""
    model, tokenizer = CLIPModel.from_pretrained(folder).eval(), CLIPTokenizer.from_pretrained(folder)
    x1, y1, x2, y2 = map(int, seen.box)
    whole = np.full((seen.image.height, seen.image.width, 3), 0x99, dtype=np.uint8)
    for row, column in zip(*seen.mask.nonzero(), strict=True):
        whole[y1 + row, x1 + column] = seen.image.getpixel((x1 + int(column), y1 + int(row)))
    image = Image.fromarray(whole).crop((x1, y1, x2, y2))
    width, height = (int(28 * length / min(image.size)) for length in image.size)
    image = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = round((width - 28) / 2), round((height - 28) / 2)
    pixels = np.asarray(image.crop((left, top, left + 28, top + 28))) / 255
    pixels = (pixels - (0.48145466, 0.4578275, 0.40821073)) / (0.26862954, 0.26130258, 0.27577711)
    cosines = {}
    with torch.no_grad():
        image_D = (
            model.get_image_features(torch.tensor(pixels).permute(2, 0, 1)[None].float())
            .pooler_output[0]
            .double()
        )
        for color in COLORS:
            prompts = (
                f"a photo of a {color} {seen.name}",
                f"a photo of a {color}-colored {seen.name}",
                f"a photo of a {color} object",
            )
            texts = [
                model.get_text_features(**tokenizer(text, return_tensors="pt")).pooler_output[0].double()
                for text in prompts
            ]
            mean_D = sum(text_D / text_D.norm() for text_D in texts) / 3
            cosines[color] = float(image_D @ mean_D / image_D.norm() / mean_D.norm())
    return cosines


def test_the_color_is_the_one_of_the_largest_cosine(folder, classifier):
    seen = objects()
    wanted = [naive(folder, one) for one in seen]
    found = classifier.classify_all(seen)
    assert found == [max(cosines, key=lambda color: cosines[color]) for cosines in wanted]
    assert len(set(found)) > 2
    assert [classifier.classify(*one) for one in seen[:4]] == found[:4]
    assert classifier.classify_all([]) == []


def test_cosines_are_the_same_too(folder, classifier):
    seen = objects(3)
    for one in seen:
        image_D, prompts_CD = (
            classifier._clip.image_features([cut_out(one)])[0],
            classifier._prompts_CD(one.name),
        )
        assert (prompts_CD @ image_D).tolist() == pytest.approx(list(naive(folder, one).values()), abs=1e-5)


def test_the_prompts_of_a_class_are_read_once(folder, monkeypatch):
    classifier = ColorClassifier(model=str(folder), **SETTINGS)
    read: list[str] = []
    monkeypatch.setattr(
        classifier._clip,
        "text_features",
        lambda texts, real=classifier._clip.text_features: read.extend(texts) or real(texts),
    )
    classifier.classify_all(objects(6))
    assert len(read) == len(COLORS) * 3 * 2 and "a photo of a red-colored tv remote" in read
    classifier.classify_all(objects(2))
    assert len(read) == 60


def test_what_is_not_the_object_is_grey():
    image = Image.new("RGB", (5, 4), (10, 20, 30))
    found = np.asarray(cut_out(Seen(image, np.eye(3, 2, dtype=bool), (1.0, 0.0, 3.0, 3.0), "dog")))
    assert found.tolist() == [
        [[10, 20, 30] if row == column else [153] * 3 for column in range(2)] for row in range(3)
    ]
    empty = cut_out(Seen(image, np.zeros((4, 5), dtype=bool), (0, 0, 5, 4), "dog"))
    assert (np.asarray(empty) == 153).all()


def test_a_picture_is_turned_as_its_exif_says_and_read_as_rgb():
    upright = Image.fromarray(np.random.default_rng(1).integers(0, 256, (4, 6, 3), dtype=np.uint8))
    turned = upright.transpose(Image.Transpose.ROTATE_90)
    turned.getexif()[0x0112] = 6  # to be turned by 90 degrees clockwise
    place = (np.ones((3, 2), dtype=bool), (4, 1, 6, 4), "dog")
    assert np.array_equal(cut_out(Seen(turned, *place)), cut_out(Seen(upright, *place)))
    assert np.array_equal(cut_out(Seen(upright, *place)), np.asarray(upright)[1:4, 4:6])
    assert all(
        cut_out(Seen(upright.convert(mode), *place)).mode == "RGB" for mode in ("L", "P", "RGBA", "CMYK")
    )


@pytest.mark.parametrize("size", [(1, 1), (300, 1), (1, 200)])
def test_the_smallest_and_the_longest_objects_have_a_color(classifier, size):
    width, height = size
    image = Image.new("RGB", size, (255, 0, 0))
    assert (
        classifier.classify(image, np.ones((height, width), dtype=bool), (0, 0, width, height), "dog")
        in COLORS
    )


@pytest.mark.parametrize(
    ("box", "shape", "words"),
    [
        (
            (0, 0, 0, 0),
            (0, 0),
            r"the dog in \(0, 0, 0, 0\) has 0 x 0 pixels and a mask of shape \(0, 0\): give a box "
            r"of at least one pixel",
        ),
        ((1, 1, 3, 2), (2, 1), r"has 2 x 1 pixels and a mask of shape \(2, 1\)"),
        ((0, 0, 2, 2), (4, 4), r"has 2 x 2 pixels and a mask of shape \(4, 4\)"),
    ],
)
def test_a_box_without_pixels_and_a_mask_of_another_size_are_refused(classifier, box, shape, words):
    with pytest.raises(ValueError, match=words):
        classifier.classify(Image.new("RGB", (4, 4)), np.ones(shape, dtype=bool), box, "dog")


def test_damaged_weights_give_no_color(folder):
    classifier = ColorClassifier(model=str(folder), **SETTINGS)
    classifier._clip._model.visual_projection.weight.data.fill_(float("nan"))
    with pytest.raises(
        ValueError, match=r"benchmarks\.scoring\.colors\.model=.*: CLIP gives no finite features"
    ):
        classifier.classify_all(objects(1))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": ""}, "benchmarks.scoring.colors.model='': give a hub id or a folder"),
        ({"dtype": "int8"}, "benchmarks.scoring.colors.dtype='int8': allowed are float32, bfloat16, float16"),
        ({"serving": {}}, "benchmarks.scoring.colors.serving has nothing: it takes device and batch_size"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_when_it_is_planned(change, words):
    with pytest.raises(ValueError) as error:
        ColorClassifier(**{"model": "openai/clip-vit-large-patch14", **SETTINGS, **change})
    assert words in str(error.value)


def test_weights_that_are_not_there_are_named_with_what_to_do(tmp_path):
    with pytest.raises(
        ValueError, match=r"benchmarks\.scoring\.colors\.model=.*: no CLIPModel could be loaded"
    ):
        ColorClassifier(model=str(tmp_path), **SETTINGS).load()
