"""The table and the JSON of `harness.bench gpu`: every number with its limit or aim, and the verdict."""

from __future__ import annotations

import json
import math

import pytest

from harness.gpu import report
from harness.gpu.worker import Outcome
from harness.protocols import Measured


@pytest.mark.parametrize(
    ("measured", "verdict"),
    [
        (Measured(name="x", value=0.1, at_most=0.1), "passed"),
        (Measured(name="x", value=0.2, at_most=0.1), "FAILED"),
        (Measured(name="x", value=math.nan, at_most=0.1), "FAILED"),
        (Measured(name="x", value=40.0, aim=40.0), "reached"),
        (Measured(name="x", value=math.nan, aim=40.0), "missed"),
        (Measured(name="x", value=1.0), ""),
    ],
)
def test_a_check_fails_above_its_limit_and_an_aim_only_is_missed(measured, verdict):
    assert report.verdict(measured) == verdict
    failed = report.failures([Outcome(phase="p", measured=[measured])])
    assert bool(failed) == (verdict == "FAILED")


OUTCOMES = [
    Outcome(
        phase="gap",
        seconds=3.2,
        peak_gb=1.25,
        measured=[
            Measured(name="mean gap", value=0.3, unit="nats", at_most=0.2, note="a|b"),
            Measured(name="speed", value=12345.6, unit="tokens/s", aim=40.0),
            Measured(name="odd", value=math.inf),
        ],
    ),
    Outcome(phase="step", seconds=1.0, failure="OutOfMemoryError: no room"),
    Outcome(phase="two processes", left_out="needs 2 GPUs, and there is 1"),
]


def test_the_table_has_a_row_for_every_number_failure_and_phase_left_out():
    lines = report.table(OUTCOMES).splitlines()
    assert lines[2:] == [
        "| gap | mean gap | 0.3 nats | at most 0.2 | FAILED | a/b |",
        "| gap | speed | 12,346 tokens/s | aim: at least 40 | reached |  |",
        "| gap | odd | inf |  |  |  |",
        "| gap | time of the phase | 3 s |  |  | peak 1.2 GB |",
        "| step |  |  |  | FAILED | OutOfMemoryError: no room |",
        "| step | time of the phase | 1 s |  |  |  |",
        "| two processes |  |  |  | left out | needs 2 GPUs, and there is 1 |",
    ]
    assert report.failures(OUTCOMES) == [
        "gap, mean gap 0.3 (at most 0.2)",
        "step (OutOfMemoryError: no room)",
    ]


def test_the_json_holds_all_figures_the_machine_and_the_verdicts(tmp_path):
    report.write(OUTCOMES, tmp_path, "cpu")
    record = json.loads((tmp_path / report.JSON).read_text(encoding="utf-8"))
    assert record["passed"] is False and record["device"] == "cpu"
    assert {"commit", "hardware", "versions", "written"} <= set(record)
    gap, step, pair = record["phases"]
    assert [one["verdict"] for one in gap["measured"]] == ["FAILED", "reached", ""]
    assert gap["measured"][0]["at_most"] == 0.2 and gap["measured"][2]["value"] == "inf"
    assert step["failure"] and pair["left_out"]
    text = (tmp_path / report.MARKDOWN).read_text(encoding="utf-8")
    assert "- verdict: FAILED" in text and report.table(OUTCOMES) in text
