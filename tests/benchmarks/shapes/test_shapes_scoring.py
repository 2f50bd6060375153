from __future__ import annotations

from itertools import permutations
from random import Random

import pytest

from benchmarks.shapes.detector import ShapesDetector
from benchmarks.shapes.facts import Facts
from benchmarks.shapes.prompts import CATEGORIES, parse_prompt, sample_facts
from benchmarks.shapes.render import render
from benchmarks.shapes.scene import BIG, SMALL, Scene, SceneObject, sample_scene
from benchmarks.shapes.scoring import assign, score_detections
from harness.types import Box, Detection


def scene(*things: tuple[str, int, int, int]) -> Scene:
    objects = []
    for name, column, row, cells in things:
        color, texture, shape = name.split()
        objects.append(
            SceneObject(shape=shape, color=color, texture=texture, cells=cells, column=column, row=row)
        )
    return Scene(objects=tuple(objects))


def score(category: str, text: str, picture: Scene) -> float | None:
    facts = parse_prompt(text)
    assert facts is not None
    return score_detections(category, facts, ShapesDetector().detect([render(picture)])[0]).value


RED_CIRCLE = ("red plain circle", 0, 2, SMALL)
BLUE_SQUARE = ("blue plain square", 4, 2, SMALL)
GREEN_TRIANGLE = ("green plain triangle", 0, 4, SMALL)
COLOR = "a red circle and a blue square"
LEFT = "a red circle on the left of a blue square"
BIGGER = "a red circle bigger than a blue square"


@pytest.mark.parametrize("category", CATEGORIES)
def test_perfect_pictures_score_one_and_blank_ones_zero(category):
    rng = Random(11)
    drawn = [(facts, sample_scene(rng, facts)) for facts in (sample_facts(rng, category) for _ in range(200))]
    seen = ShapesDetector().detect([render(picture) for _, picture in drawn])
    for (facts, _), detections in zip(drawn, seen, strict=True):
        assert score_detections(category, facts, detections).value == 1
        assert score_detections(category, facts, []).value == 0


@pytest.mark.parametrize(
    ("category", "text", "things", "expected"),
    [
        ("color", COLOR, [RED_CIRCLE, ("red plain square", 4, 2, SMALL)], 0),
        ("color", COLOR, [("blue plain circle", 0, 2, SMALL), ("red plain square", 4, 2, SMALL)], 0),
        ("color", COLOR, [RED_CIRCLE], 0),
        # the official form does not mind more
        ("color", COLOR, [RED_CIRCLE, BLUE_SQUARE, GREEN_TRIANGLE], 1),
        # nothing said about texture or size
        ("color", COLOR, [("red striped circle", 0, 0, BIG), BLUE_SQUARE], 1),
        ("shape", "a round tile and a square tile", [RED_CIRCLE, BLUE_SQUARE], 1),
        ("shape", "a round tile and a triangular tile", [RED_CIRCLE, BLUE_SQUARE], 0),
        ("texture", "a plain circle and a dotted square",
         [RED_CIRCLE, ("blue dotted square", 4, 2, SMALL)], 1),
        ("texture", "a plain circle and a dotted square", [RED_CIRCLE, BLUE_SQUARE], 0),
        ("2D-spatial", LEFT, [RED_CIRCLE, BLUE_SQUARE], 1),
        ("2D-spatial", "a blue square with a red circle on its left", [RED_CIRCLE, BLUE_SQUARE], 1),
        # 0.5 before the cut
        ("2D-spatial", "a red circle on the right of a blue square", [RED_CIRCLE, BLUE_SQUARE], 0),
        ("2D-spatial", LEFT, [RED_CIRCLE], 0),  # 0.25 before the cut
        ("2D-spatial", "a red circle next to a blue square",
         [("red plain circle", 0, 0, SMALL), ("blue plain square", 4, 3, SMALL)], 0.5 + 0.5 * 7.5 / 16),
        ("non-spatial", BIGGER, [("red plain circle", 0, 0, BIG), BLUE_SQUARE], 1),
        ("non-spatial", BIGGER, [RED_CIRCLE, BLUE_SQUARE], 2 / 3),
        ("non-spatial", BIGGER, [("red plain circle", 0, 0, BIG)], 1 / 3),
        ("complex", f"{LEFT} and a green triangle", [RED_CIRCLE, BLUE_SQUARE, GREEN_TRIANGLE], 1),
        ("complex", f"{LEFT} and a green triangle", [RED_CIRCLE, BLUE_SQUARE], 0.5),
        ("complex", "a red circle on the top of a blue square and a green triangle",
         [RED_CIRCLE, BLUE_SQUARE, GREEN_TRIANGLE], 0.5),
    ],
)  # fmt: skip
def test_hand_cases(category, text, things, expected):
    assert score(category, text, scene(*things)) == pytest.approx(expected, abs=1e-6)


def test_uncertain_detections_multiply_and_weigh():
    facts = parse_prompt(LEFT)
    assert facts is not None
    seen = [
        Detection(label="red circle", box=Box(0, 0, 333, 333), score=0.8),
        Detection(label="blue square", box=Box(500, 0, 833, 333), score=0.6),
    ]
    assert score_detections("color", facts, seen).value == pytest.approx(0.48)
    assert score_detections("2D-spatial", facts, seen).value == pytest.approx(0.25 * 0.8 + 0.25 * 0.6 + 0.5)


def test_one_detection_serves_one_phrase_and_the_best_one_counts():
    facts = Facts.read(
        {
            "objects": [{"shape": "circle"}, {"shape": "circle", "colour": "red"}],
            "relation": None,
            "phrasing": None,
        }
    )
    assert facts is not None
    red = Detection(label="red circle", box=Box(0, 0, 333, 333), score=0.9)
    blue = Detection(label="blue circle", box=Box(500, 0, 833, 333), score=0.6)
    assert score_detections("color", facts, [red]).value == 0
    assert score_detections("color", facts, [red, blue]).value == pytest.approx(0.54)


def test_evidence_names_what_counted():
    facts = parse_prompt(LEFT)
    assert facts is not None
    evidence = score_detections("2D-spatial", facts, scene(RED_CIRCLE).detections()).evidence
    assert evidence["objects"] == [
        {"phrase": "red circle", "found": "red circle", "score": 1.0},
        {"phrase": "blue square", "found": None, "score": 0.0},
    ]
    assert evidence["relation"] == {"word": "on the left of", "score": 0.0}
    assert evidence["detections"] == [{"label": "red circle", "box": [0, 333, 333, 667], "score": 1.0}]


def test_assignment_is_the_best_of_all():
    rng = Random(5)
    for _ in range(200):
        weights = [[rng.choice((0.0, rng.random())) for _ in range(4)] for _ in range(3)]
        chosen = assign(weights)
        used = [column for column in chosen if column is not None]
        assert len(set(used)) == len(used)
        best = max(
            sum(weights[row][column] for row, column in enumerate(columns))
            for columns in permutations(range(4), 3)
        )
        assert sum(
            weights[row][column] for row, column in enumerate(chosen) if column is not None
        ) == pytest.approx(best)
    assert assign([[], []]) == [None, None]
    assert assign([[0.0] * 50]) == [None]
