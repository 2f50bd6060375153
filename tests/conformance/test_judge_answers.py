"""The published answers of judges, each with the score to be read from it."""

from __future__ import annotations

import json

from harness.experts.judge.answers import read_score


def test_every_published_answer_reads_as_expected(conformance_dir):
    cases = json.loads((conformance_dir / "experts" / "judge_answers.json").read_text(encoding="utf-8"))[
        "cases"
    ]
    assert cases
    wrong = {}
    for case in cases:
        reading = read_score(case["raw"], case["scale_max"], case["finish_reason"])
        expected = None if case["expected"] == "unscored" else case["expected"]
        if reading.value != expected or (reading.value is None) != bool(reading.unscored):
            wrong[case["id"]] = (case["raw"], reading, expected)
    assert not wrong
