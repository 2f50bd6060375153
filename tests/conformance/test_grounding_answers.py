"""The published answers of models that were asked for boxes, each with the boxes to be read from it."""

from __future__ import annotations

import json

import pytest

from harness.experts.grounding.answers import CONVENTIONS, read_boxes, seen_size

LIMITS = {"min_pixels": 56 * 56, "max_pixels": 12_845_056}


@pytest.fixture(scope="module")
def cases(conformance_dir):
    found = json.loads((conformance_dir / "experts" / "grounding_answers.json").read_text(encoding="utf-8"))[
        "cases"
    ]
    assert found
    return found


def test_every_published_answer_reads_as_expected(cases):
    wrong = {}
    for case in cases:
        limits = {name: case.get(name, limit) for name, limit in LIMITS.items()}
        found = read_boxes(case["raw"], case["family"], tuple(case["image_size_wh"]), **limits)
        boxes = [pytest.approx(box, abs=1e-6) for box in case["boxes"]]
        if (found.status, [*map(list, found.boxes)], list(found.labels)) != (
            case["status"],
            boxes,
            case["labels"],
        ):
            wrong[case["id"]] = (case["raw"], found, case)
        assert bool(found.reason) == (found.status == "unreadable")
    assert not wrong


def test_images_are_seen_in_the_published_sizes(cases):
    known = [case for case in cases if "seen_size_wh" in case]
    assert known
    for case in known:
        limits = {name: case[name] for name in LIMITS}
        factor = CONVENTIONS[case["family"]].factor
        assert list(seen_size(*case["image_size_wh"], factor=factor, **limits)) == case["seen_size_wh"], case[
            "id"
        ]
