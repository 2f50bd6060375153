from __future__ import annotations

import json

import pytest

from benchmarks.shapes.relations import DIRECTIONS, NEAR, PIXELS, holds, pixels, position, thousandths
from harness.types import Box

A = (0.0, 0.0, 8.0, 8.0)


def test_official_vectors(conformance_dir):
    data = json.loads((conformance_dir / "t2i_compbench" / "compbench_position_2d.json").read_text())
    near = data["meta"]["distance_threshold"]
    assert near / 480 == NEAR / PIXELS
    for case in data["cases"]:
        scores = [
            position(word or "", tuple(case["box1"]), tuple(case["box2"]), near)
            for word in data["meta"]["localities"]
        ]
        assert scores == pytest.approx(case["scores"], abs=1e-9)


@pytest.mark.parametrize(
    ("word", "other", "expected"),
    [
        ("on the left of", (12, 4, 20, 12), 1.0),
        ("on the right of", (12, 4, 20, 12), 0.0),
        ("on the left of", (12, 12, 20, 20), 0.0),  # a tie holds for neither axis
        ("on the top of", (12, 12, 20, 20), 0.0),
        ("on the top of", (4, 12, 12, 20), 1.0),
        ("on the bottom of", (4, 12, 12, 20), 0.0),
        ("on the left of", (4, 0, 12, 8), 0.1 / (32 / 96)),  # overlapping boxes
        ("next to", (16, 4, 24, 12), 1.0),  # near along one axis is enough
        ("next to", (12, 12, 20, 20), NEAR / 12),
        ("bigger than", (12, 0, 24, 12), 0.0),
        ("smaller than", (12, 0, 24, 12), 1.0),
        ("smaller than", (12, 0, 21, 9), 0.0),  # a quarter more area is not bigger
        ("bigger than", (5, 5, 5, 5), 1.0),
        ("on top of", (4, 12, 12, 20), 0.0),  # no word of the official rule
    ],
)
def test_hand_cases(word, other, expected):
    assert holds(word, A, tuple(map(float, other))) == pytest.approx(expected)


def test_empty_boxes_hold_no_direction_and_no_size():
    empty = (4.0, 4.0, 4.0, 4.0)
    assert not any(holds(word, empty, empty) for word in (*DIRECTIONS, "bigger than", "smaller than"))


def test_pixels_undo_thousandths_so_ties_stay_ties():
    for x in range(PIXELS):
        for side in (8, 12):
            if x + side <= PIXELS:
                assert pixels(thousandths((x, 0, x + side, side))) == (x, 0, x + side, side)
    one, other = thousandths((0, 0, 8, 8)), thousandths((4, 4, 12, 12))
    assert other.center[0] - one.center[0] != other.center[1] - one.center[1] or one == Box(0, 0, 333, 333)
    assert position("on the left of", pixels(one), pixels(other)) == 0
    assert position("on the top of", pixels(one), pixels(other)) == 0
