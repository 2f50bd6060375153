from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.analysis.columns import column_names
from harness.types import Metric

OFFICIAL = "mode=official"


@pytest.mark.parametrize(
    ("metrics", "columns"),
    [
        ([], []),
        ([Metric(name="")] * 2, ["color", "color"]),
        ([Metric(name="VQA", labels=(OFFICIAL, "np=rules"))] * 2, ["color", "color"]),
        ([Metric(name="VQA", labels=("a", "b")), Metric(name="VQA", labels=("b", "a"))], ["color", "color"]),
        (
            [
                Metric(name="VQA", labels=(OFFICIAL, f"np={np}"))
                for np in ("rules", "en_core_web_sm 3.5.0", "rules")
            ],
            ["color [np=rules]", "color [np=en_core_web_sm 3.5.0]", "color [np=rules]"],
        ),
        (
            [
                Metric(name="VQA", labels=("mode=corrected", "np=rules")),
                Metric(name="VQA", labels=(OFFICIAL, "np=spacy")),
            ],
            ["color [mode=corrected, np=rules]", "color [mode=official, np=spacy]"],
        ),
        (
            [Metric(name="VQA", labels=(OFFICIAL,)), Metric(name="CLIP", labels=(OFFICIAL,))],
            ["color [VQA]", "color [CLIP]"],
        ),
        (
            [Metric(name="VQA"), Metric(name="VQA", labels=("partial: 2 of 3 prompts",))],
            ["color [without partial: 2 of 3 prompts]", "color [partial: 2 of 3 prompts]"],
        ),
        (
            [Metric(name=""), Metric(name="VQA", labels=(OFFICIAL,))],
            ["color [metric not stated]", "color [VQA, mode=official]"],
        ),
    ],
)
def test_what_differs_names_the_columns(metrics, columns):
    assert column_names("color", metrics) == columns


METRICS = st.builds(
    Metric,
    name=st.sampled_from(["", "A", "B"]),
    labels=st.lists(st.sampled_from("xyz"), unique=True).map(tuple),
)


@given(st.lists(METRICS, max_size=6))
def test_two_share_a_column_if_and_only_if_they_are_equal(metrics):
    columns = column_names("color", metrics)
    for one, first in zip(metrics, columns, strict=True):
        for other, second in zip(metrics, columns, strict=True):
            assert (first == second) == (one.name == other.name and set(one.labels) == set(other.labels))
