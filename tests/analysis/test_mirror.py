"""The mirror check: a metric that sees left and right falls, one that does not is told."""

from __future__ import annotations

import numpy as np
import pytest

from harness.analysis import mirror
from harness.analysis.statistics import bootstrap_interval


def pairs(scores: list[float], mirrored: list[float], each: int = 2) -> list[tuple[str, float, float]]:
    """`each` images of every prompt, all alike."""
    return [
        (f"p{n}", *both) for n, both in enumerate(zip(scores, mirrored, strict=True)) for _ in range(each)
    ]


def test_a_metric_that_sees_sides_falls() -> None:
    found = mirror.verdict(pairs([0.9, 0.6, 0.8, 0.0], [0.0, 0.0, 0.1, 0.0]))
    assert found is not None
    interval = bootstrap_interval(np.array([0.9, 0.6, 0.7, 0.0]))
    assert found == {
        "images": 8,
        "prompts": 4,
        "score": pytest.approx(0.575),
        "mirrored": pytest.approx(0.025),
        "drop": pytest.approx(0.55),
        "low": pytest.approx(interval.low),
        "high": pytest.approx(interval.high),
        "verdict": "falls",
    }
    assert mirror.note(found) is None


@pytest.mark.parametrize(
    "mirrored", [[0.4, 0.4, 0.4], [0.6, 0.5, 0.4], [0.4, 0.4, 0.35]], ids=["equal", "rises", "falls-for-one"]
)
def test_a_metric_that_does_not_is_blind(mirrored: list[float]) -> None:
    found = mirror.verdict(pairs([0.4, 0.4, 0.4], mirrored))
    assert found is not None and found["verdict"] == "blind"
    note = mirror.note(found)
    assert note == f"blind to left and right: mirrored images score {np.mean(mirrored):.2f}, these 0.40"


@pytest.mark.parametrize(
    ("scores", "mirrored"),
    [([0.9], [0.0]), ([0.0, 0.0, 0.0], [0.0, 0.3, 0.0])],
    ids=["one prompt", "nothing above 0 that could fall"],
)
def test_too_little_cannot_tell(scores: list[float], mirrored: list[float]) -> None:
    found = mirror.verdict(pairs(scores, mirrored))
    assert found is not None and found["verdict"] == "cannot tell" and mirror.note(found) is None


def test_images_of_a_prompt_are_one_observation() -> None:
    few, many = (mirror.verdict(pairs([0.9, 0.1, 0.5], [0.5, 0.2, 0.1], each)) for each in (1, 50))
    assert few is not None and many is not None
    assert {**many, "images": 3} == pytest.approx(few)


def test_without_a_prompt_that_says_a_side_there_is_no_verdict() -> None:
    assert mirror.verdict([]) is None and mirror.note(None) is None
