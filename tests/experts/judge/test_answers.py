"""Reading judge answers: what the published vectors (tests/conformance) do not cover."""

from __future__ import annotations

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from harness.experts.judge.answers import read_score


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ('{"score": 0.8}', 0.8),  # taken literally
        ('{"score": 1e1}', 10),
        ('{"score": [7]}', 7),
        ('{"score": [7, 8]}', None),
        ('{"score": {"value": 7}}', None),
        ('{"score": "11/10"}', None),
        ('{"score": "3/0"}', None),
        ('{"score": "120%"}', None),
        ('{"score": 1' + "0" * 400 + "}", None),
        ('{"rating": "9"}', 9),
        ('{"评分": 6}', 6),
        ('{"score": 8, "rating": 7}', None),
        ('{"score": 8, "rating": 8.0}', 8),
        ('{"score": 5, "overall_score": 7}', 5),
        ('{"a": {"final_score": 4}, "b": [{"score": 9}]}', 4),
        ('{"score": 4}\n{"score": "none"}', None),  # the last one decides, with no further fallback
        ('{"score": 4}\n{"note": "clear"}', 4),
        ('{"reason": "line\nbreak", "score": 3}', 3),
        ("{'score': 8, 'good': True, 'extra': None,}", 8),
        ('{"score": 7-8}', None),
        ('{"score": 8/10}', 8),
        ('{"score":', None),
        ("score: 3 {score", 3),
        ("[[[{'rating': 2}]]]", 2),
        ("8/10 or maybe 7/10", None),
        ("8/10, truly 8 out of 10", 8),
        ("7-8/10", None),
        ("I give 18/100 points", 1.8),
        ("on 8/10/2024", None),
        ("I cannot give this 10/10.", None),
        ("I can't fault it. 10/10", 10),
        ("Score: 8,5", None),
        ("Score: 7 to 8", None),
        ("Score: -3", None),
        ("Score: 8th", None),
        ("Score (0-10): 8", 8),
        ("Score:\n\n8", 8),
        ("## Score\n8", 8),
        ("Rating = nine", 9),
        ("My score is: 80%", 80 / 10),
        ("Score: 3. Revised score: 5.", 5),
        ("Score: 3. I refuse to revise the score of 5.", 3),
        ("总评分：8", 8),
        ("Scores: 8, 6", None),
        ("<score>6</score>", 6),
        ("<answer>The score is 7.</answer>", 7),
        ("<score>lots</score>", None),
        (r"so \boxed{8}", 8),
        ("3\nno wait\n4", None),
        ("the end\n**7**", 7),
        ("８", 8),
        ("8\u200b", 8),
        ("<think>x</think><think>{\"score\": 3}", None),
    ],
)  # fmt: skip
def test_an_answer_reads_by_the_rule(raw, expected):
    assert read_score(raw, 10).value == expected


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("Score: 1", None),
        ("Score: 0", None),
        ('{"score": 1\n', 1),
        ('{"score": "8/1', None),
        ('{"score": 7, "step": 3', 7),
        ('{"score": 10}', 10),
        ("Score: 8, since 3", 8),
        ("7", None),
    ],
)
def test_a_number_cut_at_the_token_limit_is_unscored(raw, expected):
    assert read_score(raw, 10, "length").value == expected


def test_an_empty_answer_at_the_token_limit_says_so():
    assert "judge.max_tokens" in (read_score(None, 10, "length").unscored or "")
    assert "judge.max_tokens" not in (read_score(None, 10).unscored or "")


def test_a_withheld_answer_is_unscored_with_its_reason():
    reading = read_score('{"score": 8}', 10, "content_filter")
    assert reading.value is None and "content_filter" in (reading.unscored or "")


@pytest.mark.parametrize(
    "finish", ["abort", "error", "max_tokens", "incomplete", "tool_calls", "new_one", ""]
)
@pytest.mark.parametrize("raw", ['{"reasoning": "all there", "score": 1', '{"score": 8}', "Score: 8"])
def test_only_reasons_known_to_be_good_make_an_answer_whole(raw, finish):
    reading = read_score(raw, 10, finish)
    assert reading.value is None and repr(finish) in (reading.unscored or "")


@pytest.mark.parametrize("finish", ["stop", "STOP", "end_turn", "eos_token", "stop_sequence", "completed"])
def test_a_whole_answer_is_read_in_the_terms_of_every_server(finish):
    assert read_score('{"score": 8}', 10, finish).value == 8


@given(
    st.text(alphabet=st.sampled_from("{}[]\"':,/.%-0189 \n\\scoreatinghulf<>*"), max_size=60),
    st.sampled_from(["stop", "length"]),
)
@example('{"score": "' + "9" * 5000 + '"}', "stop")
def test_any_text_reads_as_a_value_on_the_scale_or_a_reason(text, finish):
    reading = read_score(text, 10, finish)
    assert (reading.value is None) == bool(reading.unscored)
    assert reading.value is None or 0 <= reading.value <= 10


@pytest.mark.parametrize(
    "noise",
    [
        "{",
        "[",
        '{"a":',
        "score ",
        "score:\n",
        "(",
        "1",
        "1/",
        "{'",
        "```\n",
        "<score>",
        "a cannot score of 1. ",
        "on a scale of 1 ",
        "score: 4 (",
        "max score ",
        "final ",
        "满分",
        "score: seven and ",
        "给",
        "score out of ",
        "得分",
        "i give this ",
    ],
)
def test_noise_is_read_fast(noise):
    begun = time.process_time()
    read_score(noise * (20_000 // len(noise)), 10)
    assert time.process_time() - begun < 2
