"""Tiny random Grounding DINO and OWLv2 as grounders, compared with one image and one name at a time."""

from __future__ import annotations

from dataclasses import astuple

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    GroundingDinoForObjectDetection,
    GroundingDinoProcessor,
    Owlv2ForObjectDetection,
    Owlv2Processor,
)

from harness.experts.grounding.grounding_dino import GroundingDino
from harness.experts.grounding.owlv2 import Owlv2, Owlv2Pairs, best_regions
from harness.experts.grounding.phrases import group_by_image, select_detections
from harness.types import Box, Detection

torch.set_num_threads(1)
SERVING = {"batch_size": 2, "device": "cpu"}
SETTINGS = {"overlap": 0.7, "dtype": "float32", "serving": SERVING}
SIZES = [(40, 40), (40, 40), (30, 50), (60, 20), (40, 40)]  # height, width
NAMES = [
    ("red apple", "dog", "Dogs"),
    ("blue cat",),
    ("dog", "green vase"),
    ("red dog",),
    ("cat", "the green apples", "a vase"),
]


@pytest.fixture(scope="module")
def dino_folder(tmp_path_factory):
    from mini_experts import write_grounding_dino

    folder = tmp_path_factory.mktemp("dino")
    write_grounding_dino(folder)
    return folder


@pytest.fixture(scope="module")
def owl_folder(tmp_path_factory):
    from mini_experts import write_owlv2

    folder = tmp_path_factory.mktemp("owl")
    write_owlv2(folder)
    return folder


@pytest.fixture(scope="module")
def sample_images() -> list[Image.Image]:
    noise = np.random.default_rng(0)
    return [Image.fromarray(noise.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in SIZES]


def dino(folder, **change) -> GroundingDino:
    return GroundingDino(**{"model": str(folder), "threshold": 0.3, **SETTINGS, **change})


def owl(folder, **change) -> Owlv2:
    return Owlv2(**{"model": str(folder), "query": "a photo of a {}", "threshold": 0.1, **SETTINGS, **change})


def ranked(pairs, *, threshold: float) -> list[tuple[int, ...]]:
    """Thousandths by falling score, without overlaps above 0.7: `pairs` of score and fractional corners."""
    kept: list[tuple[float, ...]] = []
    for _, corners in sorted((pair for pair in pairs if pair[0] > threshold), key=lambda pair: -pair[0]):
        clipped = tuple(min(max(value, 0.0), 1.0) for value in corners)
        if (clipped[2] - clipped[0]) * (clipped[3] - clipped[1]) > 1e-6 and all(
            overlap(clipped, other) <= 0.7 for other in kept
        ):
            kept.append(clipped)
    return [tuple(round(1000 * value) for value in box) for box in kept]


def overlap(a, b) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def naive_dino(folder, image: Image.Image, names) -> list[list[tuple[int, ...]]]:
    """The library's processor makes the caption; names stand between its separators."""
    model = GroundingDinoForObjectDetection.from_pretrained(folder).eval()
    processor = GroundingDinoProcessor.from_pretrained(folder, backend="pil")
    inputs = processor(images=image, text=[list(names)], return_tensors="pt")
    with torch.no_grad():
        output = model(**inputs)
    answers, positions = [], []
    for position, token in enumerate(inputs["input_ids"][0].tolist()):
        if token in (101, 102, 1012, 1029):
            if positions:
                scores = torch.sigmoid(output.logits[0][:, positions]).mean(1).tolist()
                boxes = [
                    (x - w / 2, y - h / 2, x + w / 2, y + h / 2)
                    for x, y, w, h in output.pred_boxes[0].tolist()
                ]
                answers.append(ranked(zip(scores, boxes, strict=True), threshold=0.3))
            positions = []
        else:
            positions.append(position)
    return answers


def naive_owl(folder, image: Image.Image, name: str) -> list[tuple[int, ...]]:
    """The library's own post-processing, in pixels of the image."""
    model, processor = (
        Owlv2ForObjectDetection.from_pretrained(folder).eval(),
        Owlv2Processor.from_pretrained(folder, backend="pil"),
    )
    inputs = processor(
        images=image, text=[[f"a photo of a {name}"]], return_tensors="pt", truncation=True, max_length=16
    )
    with torch.no_grad():
        output = model(**inputs)
    (found,) = processor.image_processor.post_process_object_detection(
        output, threshold=0.1, target_sizes=[(image.height, image.width)]
    )
    boxes = [
        (x1 / image.width, y1 / image.height, x2 / image.width, y2 / image.height)
        for x1, y1, x2, y2 in found["boxes"].tolist()
    ]
    return ranked(zip(found["scores"].tolist(), boxes, strict=True), threshold=0.1)


def close(found: list[Box], wanted: list[tuple[int, ...]]) -> bool:
    return len(found) == len(wanted) and all(
        max(abs(a - b) for a, b in zip((box.x1, box.y1, box.x2, box.y2), corners, strict=True)) <= 1
        for box, corners in zip(found, wanted, strict=True)
    )


def asked(sample_images):
    pairs = [(image, name) for image, names in zip(sample_images, NAMES, strict=True) for name in names]
    order = np.random.default_rng(1).permutation(len(pairs))  # a caller may mix images
    return [pairs[index] for index in order]


def test_grounding_dino_scores_a_name_by_the_mean_of_its_tokens(dino_folder, sample_images):
    pairs = asked(sample_images)
    found = dino(dino_folder).locate([image for image, _ in pairs], [name for _, name in pairs])
    wanted = {
        (id(image), name): answer
        for image in sample_images
        for names in [[name for other, name in pairs if other is image]]
        for name, answer in zip(names, naive_dino(dino_folder, image, names), strict=True)
    }
    assert len({tuple(answer) for answer in wanted.values()}) > 5
    for (image, name), boxes in zip(pairs, found, strict=True):
        assert close(boxes, wanted[id(image), name]), name


def test_owlv2_scores_a_name_by_its_query_and_sees_a_padded_square(owl_folder, sample_images):
    pairs = asked(sample_images)
    found = owl(owl_folder).locate([image for image, _ in pairs], [name for _, name in pairs])
    wanted = [naive_owl(owl_folder, image, name) for image, name in pairs]
    assert len({tuple(answer) for answer in wanted}) > 5
    assert all(close(boxes, answer) for boxes, answer in zip(found, wanted, strict=True))


@pytest.mark.parametrize("batch", [1, 3, 100])
def test_answers_do_not_depend_on_the_batch(dino_folder, owl_folder, sample_images, batch):
    images, names = zip(*asked(sample_images), strict=True)
    for expert, folder in ((dino, dino_folder), (owl, owl_folder)):
        few = expert(folder).locate(images, names)
        many = expert(folder, serving={**SERVING, "batch_size": batch}).locate(images, names)
        assert all(
            close(one, [(box.x1, box.y1, box.x2, box.y2) for box in other])
            for one, other in zip(few, many, strict=True)
        )


def test_each_image_is_processed_once_for_all_its_names(dino_folder, owl_folder, sample_images):
    image = sample_images[0]
    for expert in (dino(dino_folder), owl(owl_folder)):
        looks: list[int] = []
        expert._model.register_forward_pre_hook(
            lambda _, args, given, looks=looks: looks.append(len(given["pixel_values"])), with_kwargs=True
        )
        first, second, third = expert.locate([image, image, image], ["dog", "cat", "dog"])
        assert looks == [1] and first == third != second


def test_captions_that_are_too_long_are_split(dino_folder, sample_images):
    """The tiny model holds 32 tokens: 12 names of two need two captions; one of 100 is cut."""
    names = [
        f"{color} {thing}" for color in ("red", "blue", "green") for thing in ("apple", "dog", "cat", "vase")
    ]
    grounder = dino(dino_folder)
    captions = grounder._captions(names)
    assert [len(caption.ids) for caption in captions] == [32, 8]
    assert [name for caption in captions for name in caption.spans] == names
    (caption,) = grounder._captions(["dog " * 100])
    assert len(caption.ids) == 32
    assert len(grounder.locate([sample_images[0]] * 12, names)) == 12


@pytest.mark.parametrize("name", ["", "...", " ? ", "\u200b"])
def test_a_name_without_a_word_is_absent_and_shifts_no_other(dino_folder, sample_images, name):
    grounder, image = dino(dino_folder), sample_images[0]
    assert grounder.locate([image, image], ["dog", name]) == [*grounder.locate([image], ["dog"]), []]


def test_a_dot_within_a_name_does_not_part_it(dino_folder):
    (caption,) = dino(dino_folder)._captions(["red. dog?", "cat"])
    assert {name: span.stop - span.start for name, span in caption.spans.items()} == {
        "red. dog?": 2,
        "cat": 1,
    }


def test_no_question_no_answer_and_one_name_for_each_image(dino_folder, owl_folder, sample_images):
    for expert in (dino(dino_folder), owl(owl_folder)):
        assert expert.locate([], []) == []
        with pytest.raises(ValueError, match="2 images and 1 names: give one name for each image"):
            expert.locate(sample_images[:2], ["dog"])


def test_a_long_name_is_cut(owl_folder, sample_images):
    long, longer = owl(owl_folder).locate([sample_images[0]] * 2, ["dog " * 20, "dog " * 30])
    assert long == longer


def test_nothing_above_the_threshold_is_absent(dino_folder, owl_folder, sample_images):
    assert dino(dino_folder, threshold=1.0).locate(sample_images[:1], ["dog"]) == [[]]
    assert owl(owl_folder, threshold=1.0).locate(sample_images[:1], ["dog"]) == [[]]


def test_boxes_come_by_falling_score_clipped_without_duplicates_and_not_empty():
    corners = [
        (0.1, 0.1, 0.5, 0.5),
        (0.1, 0.1, 0.5, 0.49),
        (-0.2, 0.5, 0.3, 1.4),
        (1.1, 0, 1.3, 1),
        (0.2, 0.2, 0.2001, 0.9),
        (0, 0, 1, 1),
    ]
    scores = [0.5, 0.9, 0.6, 0.8, 0.8, 0.3]
    found = select_detections("dog", scores, corners, threshold=0.3, overlap=0.7)
    assert found == [
        Detection(label="dog", box=Box(100, 100, 500, 490), score=0.9),
        Detection(label="dog", box=Box(0, 500, 300, 1000), score=0.6),
    ]
    assert select_detections("dog", scores, corners, threshold=0.3, overlap=1.0)[-1].box == Box(
        100, 100, 500, 500
    )


def test_lookups_keep_the_order_of_names_and_separate_images():
    first, second = Image.new("RGB", (2, 2)), Image.new("RGB", (2, 2))
    lookups = group_by_image([first, second, first, first], ["dog", "cat", "cat", "dog"])
    assert [(lookup.image is first, lookup.names) for lookup in lookups] == [
        (True, ("dog", "cat")),
        (False, ("cat",)),
    ]


@pytest.mark.parametrize(
    ("expert", "change", "words"),
    [
        (dino, {"threshold": 1.5}, "phrase_grounder.threshold=1.5: give a number from 0 to 1"),
        (dino, {"overlap": "x"}, "phrase_grounder.overlap='x': give a number from 0 to 1"),
        (
            dino,
            {"serving": {**SERVING, "batch_size": True}},
            "phrase_grounder.serving.batch_size=True: give a whole number from 1",
        ),
        (owl, {"threshold": None}, "phrase_grounder.threshold=None: give a number from 0 to 1"),
        (owl, {"query": "a photo"}, "phrase_grounder.query='a photo': write {} once"),
        (owl, {"dtype": "half"}, "phrase_grounder.dtype='half': allowed are"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_when_it_is_planned(expert, change, words):
    with pytest.raises(ValueError) as error:
        expert("hub/model", **change)
    assert words in str(error.value)


def test_each_others_folders_are_refused(dino_folder, owl_folder):
    with pytest.raises(
        ValueError,
        match=r"phrase_grounder\.model=.* is of type owlv2, and a GroundingDinoForObjectDetection is wanted",
    ):
        assert dino(owl_folder)._model
    with pytest.raises(
        ValueError,
        match=r"phrase_grounder\.model=.* is of type grounding-dino, and a Owlv2ForObjectDetection is wanted",
    ):
        assert owl(dino_folder)._model


def test_two_phrases_asked_together_are_found_as_by_the_librarys_own_reading(owl_folder, sample_images):
    """Both phrases in one call, in pixels, the box of the highest score for each label."""
    pairs = [
        ("a dog", "a cat"),
        ("a cat", "the red vase"),
        ("a vase", "a dog"),
        ("x", "y"),
        ("a cat", "a cat"),
    ]
    expert = Owlv2Pairs(
        model=str(owl_folder),
        query="{}",
        threshold=0.1,
        dtype="float32",
        serving={**SERVING, "batch_size": 3},
    )
    found = expert.find_pairs(sample_images, pairs)
    model = Owlv2ForObjectDetection.from_pretrained(owl_folder).eval()
    processor = Owlv2Processor.from_pretrained(owl_folder, backend="pil")
    shared = 0
    for image, pair, regions in zip(sample_images, pairs, found, strict=True):
        inputs = processor(
            images=image, text=[list(pair)], return_tensors="pt", truncation=True, max_length=16
        )
        with torch.no_grad():
            output = model(**inputs)
        (read,) = processor.image_processor.post_process_object_detection(
            output, threshold=0.1, target_sizes=[(image.height, image.width)]
        )
        best: dict[str, tuple[float, list[float]]] = {}
        for score, label, box in zip(
            read["scores"].tolist(), read["labels"].tolist(), read["boxes"].tolist(), strict=True
        ):
            if score > best.get(pair[label], (0.0, []))[0]:
                best[pair[label]] = score, box
        for name, region in zip(pair, regions, strict=True):
            assert (region is None) == (name not in best)
            if region is not None:
                scale = [1000 / image.width, 1000 / image.height] * 2
                wanted = [value * unit for value, unit in zip(best[name][1], scale, strict=True)]
                assert astuple(region) == pytest.approx(wanted, abs=0.05)
                shared += 1
    assert shared > 5


def test_a_box_belongs_to_the_phrase_it_fits_best_and_the_first_of_equals_wins():
    corners = [(0.1, 0.1, 0.3, 0.3), (0.5, 0.5, 0.9, 1.1), (0.2, 0.2, 0.4, 0.4), (0.0, 0.0, 0.1, 0.1)]
    scores = [[0.4, 0.5], [0.9, 0.95], [0.95, 0.95], [0.95, 0.1]]
    first, second = best_regions(scores, corners, 0.1)
    assert first is not None and astuple(first) == pytest.approx((200, 200, 400, 400))
    assert second is not None and astuple(second) == pytest.approx((500, 500, 900, 1100)), "not clipped"
    assert best_regions([[0.1, 0.05]], corners[:1], 0.1) == [None, None], "the threshold itself is too low"


def test_a_detector_of_pairs_names_its_protocol(owl_folder):
    expert = Owlv2Pairs(model=str(owl_folder), query="{}", threshold=0.1, dtype="float16", serving=SERVING)
    assert expert.labels == (f"detector={owl_folder.name}", "threshold=0.1", "query=PHRASE")
