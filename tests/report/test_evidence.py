"""Evidence as benchmarks, judges and plugins write it, read as boxes and as words."""

from __future__ import annotations

import pytest

from harness.report.evidence import detected, words
from harness.types import Box, PlannedObject


def test_detections_are_on_the_canvas_already() -> None:
    evidence = {"detections": [{"label": "cup", "box": [100, 0, 400, 1000], "score": 0.876}]}
    assert detected(evidence) == (PlannedObject(name="cup 0.88", box=Box(100, 0, 400, 1000)),)


def test_boxes_in_pixels_are_scaled_by_their_frame_and_kept_within_it() -> None:
    box = {"label": "cup", "box": [-3.0, 10.0, 50.0, 90.0], "score": 1, "color": "red"}
    (cup,) = detected({"boxes": [box], "frame": [200, 100]}) or ()
    assert cup.box == Box(0, 100, 250, 900)


def test_nothing_found_is_not_the_same_as_no_boxes() -> None:
    assert detected({"detections": []}) == ()
    assert detected({"answer": "yes"}) is None


@pytest.mark.parametrize(
    "evidence",
    [
        {"detections": 3},
        {"detections": [{"label": "cup"}]},
        {"detections": [{"label": "cup", "box": [1, 2, 3], "score": 1}]},
        {"boxes": [{"label": "cup", "box": [1, 2, 3, 4], "score": 1}]},
        {"boxes": [{"label": "cup", "box": [1, 2, 3, 4], "score": 1}], "frame": [0, 0]},
        {"boxes": [{"label": "cup", "box": [9, 9, 3, 4], "score": 1}], "frame": [10, 10]},
    ],
    ids=str,
)
def test_a_plugin_may_use_these_names_for_something_else(evidence) -> None:
    assert detected(evidence) is None
    assert [line.partition(":")[0] for line in words(evidence)] == list(evidence)


def test_words_leave_out_what_is_drawn() -> None:
    evidence = {
        "detections": [],
        "objects": [
            {"phrase": "red cup", "found": None, "score": 0.0},
            {"phrase": "dog", "found": "dog", "score": 0.97213},
        ],
        "questions": ["a red cup?", "a dog?"],
        "answers": [0.5, 1.0],
        "judge": {"answer": "Both are there. 9", "score": "text"},
        "empty": [],
    }
    assert words(evidence) == (
        "objects: phrase red cup, found none, score 0",
        "objects: phrase dog, found dog, score 0.972",
        "questions: a red cup?; a dog?",
        "answers: 0.5; 1",
        "judge: answer Both are there. 9, score text",
        "empty: none",
    )
