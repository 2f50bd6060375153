"""Reading boxes: what the published vectors (tests/conformance) do not cover."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.experts.grounding.answers import read_boxes, seen_size

LIMITS = {"min_pixels": 3136, "max_pixels": 12_845_056}
DOG = (100.0, 200.0, 300.0, 400.0)


def read(raw, convention="qwen3_vl", size=(384, 384), finish="stop"):
    return read_boxes(raw, convention, size, **LIMITS, finish_reason=finish)


@pytest.mark.parametrize(
    ("raw", "boxes", "labels"),
    [
        ('{"BBox": [100, 200, 300, 400], "Name": "dog"}', [DOG], ["dog"]),
        ('{"bounding_box": "100, 200, 300, 400", "class": "dog"}', [DOG], ["dog"]),
        ('{"bbox": "(100,200),(300,400)"}', [DOG], [None]),
        ('{"bbox": "x1=100 y1=200 x2=300 y2=400"}', [DOG], [None]),
        ('{"box": [[100, 200], [300, 400]], "object": "dog"}', [DOG], ["dog"]),
        ('{"box": {"xmin": 100, "ymin": 200, "xmax": 300, "ymax": 400}}', [DOG], [None]),
        ('{"box": {"left": 100, "top": 200, "right": 300, "bottom": 400}}', [DOG], [None]),
        ('{"label": "dog", "x1": 100, "y1": 200, "x2": 300, "y2": 400}', [DOG], ["dog"]),
        ('{"dog": [[100, 200, 300, 400], [1, 2, 3, 4]]}', [DOG, (1.0, 2.0, 3.0, 4.0)], ["dog", "dog"]),
        ('{"boxes": [[100, 200, 300, 400]]}', [DOG], [None]),
        ('{"dog": {"bbox_2d": [100, 200, 300, 400]}}', [DOG], [None]),
        ('{"bbox_2d": [100, 200, 300, 400], "size": [3, 4, 5, 6]}', [DOG], [None]),
        ("```python\n[{'bbox_2d': [100, 200, 300, 400], 'label': None}]\n```", [DOG], [None]),
        ("The dogs: [100, 200, 300, 400] and [1, 2, 3, 4].", [DOG, (1.0, 2.0, 3.0, 4.0)], [None, None]),
        ("[(100,200),(300,400)]", [DOG], [None]),
        (
            "<|object_ref_start|>a dog<|object_ref_end|><|box_start|>(100,200),(300,400)<|box_end|>"
            "<|box_start|>(1,2),(3,4)<|box_end|>",
            [DOG, (1.0, 2.0, 3.0, 4.0)],
            ["a dog", "a dog"],
        ),
        (
            '[{"bbox_2d": [100, 200, 300, 400], "label": "dog"}, {"bbox_2d": [0, 0, 0, 0], "label": "cat"}]',
            [DOG],
            ["dog"],
        ),
        ("[0.0, 0.0, 1.0, 1.0]", [(0.0, 0.0, 1000.0, 1000.0)], [None]),
        ("[0, 0, 1, 1]", [(0.0, 0.0, 1.0, 1.0)], [None]),
        ("[-20, 0, 1020, 500]", [(0.0, 0.0, 1000.0, 500.0)], [None]),
        (
            '[{"bbox_2d": [100, 200, 300, 400], "label": "a"},'
            ' {"bbox_2d": [100, 200, 300, 400], "label": "b"}]',
            [DOG, DOG],
            ["a", "b"],
        ),
        ('{"bbox_2d": [[100, 200, 300, 400], [5, 6', [DOG], [None]),
        ('There is no cat, but a dog: {"bbox_2d": [100, 200, 300, 400]}', [DOG], [None]),
        (
            '{"cup": {"bbox_2d": [100, 200, 300, 400]}, "plate": {"bbox_2d": []}}',
            [DOG],
            ["cup"],
        ),
        ('{"cup": [{"bbox_2d": [100, 200, 300, 400]}], "plate": []}', [DOG], ["cup"]),
        (
            '{"cup": {"bbox_2d": [100, 200, 300, 400], "label": "mug"}, "plate": null}',
            [DOG],
            ["mug"],
        ),
        ("１００,[１００, ２００, ３００, ４００]", [DOG], [None]),
    ],
)
def test_boxes_are_read_by_the_rule(raw, boxes, labels):
    found = read(raw)
    assert (found.status, list(found.boxes), list(found.labels)) == ("ok", boxes, labels)


@pytest.mark.parametrize(
    "raw",
    [
        '{"bbox_2d": [0, 0, 0, 0]}',
        '{"bbox_2d": {}}',
        '{"bbox_2d": ""}',
        '{"objects": []}',
        '{"dog": null}',
        "None",
        "null",
        "There are no dogs here.",
        "The image does not contain a dog.",
        "No dog is visible in the picture.",
        '{"answer": "the dog is not present"}',
        "I looked twice.\n\n```json\n[]\n```",
    ],
)
def test_absence_is_a_finding(raw):
    assert read(raw).status == "absent"


@pytest.mark.parametrize(
    "raw",
    [
        None,
        " \u200b",
        "<think>[100, 200, 300, 400]",
        "[",
        "[100, 200, 300, 400",
        '{"bbox_2d": null',
        '{"bbox_2d": [100, 200, 300, true]}',
        '{"bbox_2d": [100, 200, 300, NaN]}',
        '{"bbox_2d": [100, 200, 300, 1021]}',
        '{"bbox_2d": [-21, 200, 300, 400]}',
        '[{"box_2d": [100, 200, 300, 400], "label": "cup"}]',  # Gemini's: y first
        '{"box_2d": [100, 200, 300, 400]}',
        '{"box_2d": [[100, 200, 300, 400]]}',
        '{"bbox_xywh": [100, 200, 300, 400]}',
        '{"label": "cup", "position": [100, 200, 300, 400]}',
        '{"label": "cup", "cup": [100, 200, 300, 400]}',
        '{"label": "cup", "color": [255, 0, 0, 255]}',
        '{"bbox": {"x": 100, "y": 200, "width": 30, "height": 40}}',
        '[{"bbox_2d": [1, 2, 3]}, {"bbox_2d": null}]',
        "I cannot say whether there is no dog.",
        "somewhere on the left",
        "(100,200),(300,40",
    ],
)
def test_what_says_neither_is_unreadable(raw):
    found = read(raw)
    assert found.status == "unreadable" and found.reason and not found.boxes


@pytest.mark.parametrize(
    ("raw", "label"),
    [
        ('[{"box_2d": [100, 200, 300, 400], "label": "cup"}]', "cup"),
        ('{"boxes": [[100, 200, 300, 400]]}', None),
        ("[100, 200, 300, 400]", None),
        ('{"cup": [100, 200, 300, 400]}', "cup"),
        ('{"box_2d": {"ymin": 100, "xmin": 200, "ymax": 300, "xmax": 400}, "label": "cup"}', "cup"),
    ],
)
def test_geminis_boxes_have_y_first(raw, label):
    found = read(raw, "gemini")
    assert (found.boxes, found.labels) == (((200.0, 100.0, 400.0, 300.0),), (label,))


@pytest.mark.parametrize("raw", ['{"bbox_2d": [100, 200, 300, 400]}', "(100,200),(300,400)"])
def test_boxes_with_x_first_are_none_of_geminis(raw):
    assert read(raw, "gemini").status == "unreadable"


def test_swapped_corners_are_counted():
    found = read('[{"bbox_2d": [300, 200, 100, 400]}, {"bbox_2d": [1, 2, 3, 4]}]')
    assert found.boxes[0] == DOG and found.swapped == 1 and read("[1, 2, 3, 4]").swapped == 0


def test_a_withheld_answer_is_unreadable_and_a_cut_one_counts_as_far_as_it_goes():
    whole = '[{"bbox_2d": [100, 200, 300, 400], "label": "dog"}, {"bbox_2d": [5'
    assert read(whole, finish="content_filter").status == "unreadable"
    assert read(whole, finish="length").boxes == (DOG,)


@pytest.mark.parametrize("finish", ["abort", "error", "max_tokens", "incomplete", "new_one"])
@pytest.mark.parametrize("raw", ["[]", "[100, 200, 300, 400]", "There is no dog."])
def test_an_answer_that_broke_off_is_unreadable(raw, finish):
    assert read(raw, finish=finish).status == "unreadable" and read(raw, finish="STOP").status != "unreadable"


def test_pixels_are_those_of_the_resized_image():
    (box,) = read("[98, 0, 392, 196]", "qwen2_5_vl").boxes
    assert box == (250.0, 0.0, 1000.0, 500.0)
    assert read("[0.25, 0, 1, 0.5]", "qwen2_5_vl").boxes == (box,)


@pytest.fixture(scope="module")
def smart_resize():
    from transformers.models.qwen2_vl import image_processing_pil_qwen2_vl

    return image_processing_pil_qwen2_vl.smart_resize


RULES = [(28, 3136, 1_003_520), (28, 3136, 12_845_056), (32, 65_536, 16_777_216)]


@given(st.integers(1, 3000), st.integers(1, 3000), st.sampled_from(RULES))
def test_sizes_are_those_of_the_librarys_own_processor(smart_resize, width, height, rule):
    factor, low, high = rule
    if max(width, height) / min(width, height) > 200:
        return
    seen = seen_size(width, height, factor=factor, min_pixels=low, max_pixels=high)
    assert seen == smart_resize(height, width, factor, low, high)[::-1]


PIECES = [
    *(
        '{"',
        '":',
        "bbox_2d",
        "box_2d",
        "label",
        "cup",
        '", "',
        "[",
        "]",
        "}",
        ", ",
        "{",
        "null",
        "boxes",
        "(",
        ")",
    ),
    *("10", "0.5", "-3", "1e999", "NaN", "1000", "xmin", "ymax", "[10, 20, 30, 40]", "true", '"', "\\", "'"),
    "no cup",
]


@given(
    st.lists(st.sampled_from(PIECES) | st.text(max_size=2), max_size=25).map("".join),
    st.sampled_from(["qwen2_5_vl", "qwen3_vl", "gemini"]),
    st.sampled_from(["stop", "length", "abort"]),
)
def test_any_words_read_as_boxes_within_the_image_or_none(text, convention, finish):
    found = read(text, convention, finish=finish)
    assert (found.status == "ok") == bool(found.boxes) and len(found.boxes) == len(found.labels)
    assert (found.status == "unreadable") == bool(found.reason)
    for x1, y1, x2, y2 in found.boxes:
        assert 0 <= x1 < x2 <= 1000 and 0 <= y1 < y2 <= 1000


@given(
    st.text(alphabet=st.sampled_from("{}[]()\"':,.-0129 \nbox_2dlae|<>"), max_size=80),
    st.sampled_from(["qwen2_5_vl", "qwen3_vl"]),
)
def test_any_text_reads_as_boxes_within_the_image_or_none(text, convention):
    found = read(text, convention)
    assert (found.status == "ok") == bool(found.boxes) and len(found.boxes) == len(found.labels)
    for x1, y1, x2, y2 in found.boxes:
        assert 0 <= x1 < x2 <= 1000 and 0 <= y1 < y2 <= 1000


@pytest.mark.parametrize(
    "noise",
    [
        "{",
        "[",
        "(1,",
        "(1,2),",
        "no ",
        "there is ",
        '{"bbox":',
        "[[1,2],",
        "<|object_ref_start|>",
        '{"2d2d2d',
    ],
)
def test_noise_is_read_fast(noise):
    begun = time.process_time()
    read(noise * (20_000 // len(noise)))
    assert time.process_time() - begun < 2
