"""What GenEval's own functions and its summary script computed."""

from __future__ import annotations

import json

import pytest

from benchmarks.geneval import rules
from benchmarks.geneval.summary import summarise
from harness.types import Detections


@pytest.fixture(scope="module")
def published(conformance_dir):
    def read(name):
        file = conformance_dir / "geneval" / name
        if not file.is_file():
            pytest.skip(f"no {name} in {file.parent}")
        return json.loads(file.read_text(encoding="utf-8"))

    return read


def ordered(reason):
    """The reason with relations in order: where two hold, the official text has them as a set gives them."""
    lines = []
    for line in reason.split("\n"):
        start, found, said = line.partition(" target, found ")
        lines.append(
            start + found + " and ".join(sorted(said.removesuffix(" target").split(" and ")))
            if found
            else line
        )
    return lines


def test_relations_and_overlap_of_two_boxes(published):
    cases = published("geneval_relative_position.json")["cases"]
    assert cases
    for case in cases:
        a, b = tuple(case["a"]), tuple(case["b"])
        assert rules.relations(a, b) == set(case["relations"]), case
        assert rules.iou(a, b) == pytest.approx(case["iou"], abs=1e-9), case


def test_images(published):
    vectors = published("geneval_evaluate.json")
    assert len(vectors["cases"]) >= 1
    for case in vectors["cases"]:
        rows = case["detections"]
        found = Detections(
            frame=(512, 512),
            labels=tuple(row["label"] for row in rows),
            boxes=tuple(tuple(row["box"]) for row in rows),
            scores=tuple(row["score"] for row in rows),
        )
        kept = rules.keep(found, case["metadata"]["tag"])
        numbers = {
            label: [[*found.boxes[place], found.scores[place]] for place in places]
            for label, places in kept.items()
        }
        assert numbers.keys() == case["kept"].keys(), case
        for label, boxes in case["kept"].items():
            assert len(numbers[label]) == len(boxes), case
            for got, wanted in zip(numbers[label], boxes, strict=True):
                assert got == pytest.approx(wanted, abs=1e-6), case  # they were written with six decimals
        verdict = rules.evaluate(
            case["metadata"], found, kept, lambda label, place, rows=rows: rows[place]["color"]
        )
        assert verdict.correct == case["correct"], case
        assert ordered(verdict.reason) == ordered(case["reason"]), case


def test_the_limits_are_those_of_the_official_program(published):
    wanted = published("geneval_evaluate.json")["meta"]["thresholds"]
    limits = rules.LIMITS["official"]
    found = {
        "threshold": limits.score,
        "counting": limits.counting_score,
        "max_objects": rules.MOST,
        "nms": limits.overlap or 1.0,
    }
    assert {**found, "position": rules.MARGIN} == wanted


def test_the_summary_is_printed_exactly(published):
    vectors = published("geneval_summary.json")
    assert vectors["rows"]
    summary = summarise((row["tag"], row["prompt"], row["correct"]) for row in vectors["rows"])
    assert summary.text() == vectors["stdout"]
