"""Scores on the scales that answers name, in words, and in Chinese; and scores that cut answers quote."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.experts.judge.answers import read_score


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("Score: 4 (out of 5)", 8),
        ("Score: 4, out of 5", 8),
        ("Score: 4 out of five", 8),
        ("Score: 4 out of a possible 5", 8),
        ("Rating: 4 of 5", 8),
        ("Score: 4 (5 max)", 8),
        ("Score: 85 (0-100)", 8.5),
        ("Score: 80 percent", 8),
        ("4/5", 8),
        ("Score (0-5): 4", 8),
        ("Score (1-10): 8", 8),
        ("Score (1-5): 4", None),  # a 1 of 1 to 5 may be a 0 or a 2 of 0 to 10
        ("Score [1-5]: 4", None),
        ("Score (5 is best): 4", None),
        ("Score (higher is better): 4", 4),
        ("Score: 4 (scale: 1-5)", None),
        ("Score: 4 on a scale of 0-5", 8),
        ("a 5-point scale. Score: 4", None),
        ("Maximum score: 5. Score: 4", 8),
        ("Maximum score: 10", None),
        ("On a scale from 0 to 10, score: 8", 8),
        ('On a scale of 0 to 5: {"score": 4}', 8),
        ('On a scale of 1 to 5: {"score": 4}', None),
        ('A scale of 0 to 5, or a scale of 0 to 10: {"score": 4}', None),
        ("Score: 8 (3 of 4 objects are right)", 8),
        ('{"score": 4, "max_score": 5}', 8),
        ('{"overall_score": 4, "Max Score": 5}', 8),
        ('{"score": 4, "out_of": "5"}', 8),
        ('{"score": 4, "scale": "0-5"}', 8),
        ('{"score": 4, "scale": "1-5"}', None),
        ('{"score": 4, "scale": [0, 5]}', 8),
        ('{"score": 4, "scale": {"min": 0, "max": 5}}', 8),
        ('{"score": 4, "min_score": 1, "max_score": 5}', None),
        ('{"score": 6, "max_score": 5}', None),
        ('{"score": 4, "max_score": "unknown"}', None),
        ('{"max_score": 5, "evaluation": {"score": 4}}', 8),
        ('{"max_score": 10}', None),
        ('{"score": "4 (out of 5)"}', 8),
        ('{"score": 4} out of 5', 8),
        ('{"score": 4}/5', 8),
        ('{"score": 4} (1-5)', None),
        ("Score: 4 (0 = worst, 5 = best)", None),
        ("Score: 8 (0 = worst, 10 = best)", 8),
        ("Score (0 = worst, 10 = best): 8", 8),
        ("Score: 4 over 5", 8),
        ("Score: 8. 3 objects are missing", 8),
        ("Score: 10/10/10", None),
        ("Score: 3 -> 5", None),
        ("<score>4/5</score>", 8),
    ],
)
def test_a_scale_that_is_named_is_converted_or_the_answer_is_unscored(raw, expected):
    assert read_score(raw, 10).value == expected


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("Color score: 4\nLayout score: 6", None),
        ("Score: 4. Rating: 6", None),
        ("Score: 4. So the score is 4.", 4),
        ("Color score: 4\nFinal score: 5", 5),
        ("Total score: 5\nLayout score: 6", 5),
        ("Color score: 4\nLayout score: 6\nOverall: 5", 5),
        ("Final score: 4\nOverall score: 6", None),
        ("色彩评分：4\n布局评分：6\n总分：5", 5),
        ('{"object_score": 8, "spatial_score": 6, "overall_score": 7}', 7),
        ("<score>3</score> <score>5</score>", None),
    ],
)
def test_of_several_scores_the_one_called_final_counts(raw, expected):
    assert read_score(raw, 10).value == expected


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("评价：符合要求。分数：9分", 9),
        ("得分：8.5分", 8.5),
        ("綜合總分為8分", 8),
        ("评分：4分（满分5分）", 8),
        ("评分：80分（百分制）", 8),
        ("分数：8/10分", 8),
        ("分数：九分", 9),
        ('{"分数": "9分"}', 9),
        ("9分", 9),
        ("分数：9分半", None),
        ("分数：八分半", None),
        ("分数：8到9分", None),
    ],
)
def test_chinese_answers_are_read(raw, expected):
    assert read_score(raw, 10).value == expected


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("Score: seven", 7),
        ("Score: seven.", 7),
        ("Score: eight out of ten", 8),
        ("Score: eight because all fits", 8),
        *[(f"Score: {number}", None) for number in ("seven and a half", "seven point five", "seven-eight")],
        *[
            (f"Score: {number}", None)
            for number in ("seven or eight", "one hundred", "seven tenths", "½", "0½")
        ],
        *[(f"Score: {number}", None) for number in ("7 and one half", "7½", "7 1/2", "7 point 5")],
        ('{"score": "seven and a half"}', None),
        ("<score>seven and a half</score>", None),
    ],
)
def test_a_number_that_goes_on_is_no_whole_number(raw, expected):
    assert read_score(raw, 10).value == expected


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ('The format asks for {"score": 10} if it is perfect. Here the apple is', None),
        ('It could be {"score": 10}. {"score": 7, "reason": "the apple', 7),
        ('{"score": 7}\n\nThe image matches', 7),
        ('The image is fine.\n{"score": 7}', 7),
        ("A perfect image has a score of 10, but here", None),
        ("So <score>10</score> is for perfect ones, but", None),
        ("Final score: 8. The apple", 8),
        ("One can give 10/10 for this, but", None),
    ],
)
def test_a_score_in_the_middle_of_a_cut_answer_is_a_quotation(raw, expected):
    assert read_score(raw, 10, "length").value == expected


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        *[(f"{label}: 4", 8) for label in ("Score out of 5", "Rating, out of five", "Score/5")],
        ("Score from 0 to 5: 4", 8),
        *[(f"{label}: 4", None) for label in ("Score from 1 to 5", "Score 1-5", "Score of 4")],
        ("**Score out of 10:** 8", 8),
        ("The score on a scale of 0-5 is 4", 8),
        ("Score 8/10: 3 objects are missing", 8),
        *[(f'{{"{key}": 4}}', 8) for key in ("score (0-5)", "score_out_of_5", "score/5", "得分（满分5分）")],
        *[(f'{{"{key}": 4}}', None) for key in ("score (1-5)", "rating_1_to_5", "score_of_5", "score_1")],
        ('{"score (color)": 4, "overall_score": 7}', 7),
        ('{"rating": 4, "of": 5}', 8),
    ],
)  # fmt: skip
def test_a_scale_in_the_label_is_converted_or_the_answer_is_unscored(raw, expected):
    assert read_score(raw, 10).value == expected


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        *[(f"I give this {grade}", 8) for grade in ("a 4 out of 5", "4/5.", "a four out of five", "80%")],
        ("I give this a 4 out of 5. 3/5 of the cups are red.", 8),
        ("I would rate the image 4 stars out of 5 because it fits", 8),
        ("The image deserves 7 out of 10 points.", 7),
        ("I rate this 4/5 for colors and 3/5 for layout", 8),
        ("I rate this 4/5. Then I rate it 3/5", None),
        *[(f"I give {grade}", None) for grade in ("4 out of 5 cups a tick", "this a 4", "3 or 4 out of 5")],
        *[(f"I {verb} this a 4 out of 5", None) for verb in ("cannot give", "would not give", "saw")],
        ("3 out of 4 objects are there. I give this 8/10.", 8),
    ],
)
def test_a_grade_given_in_a_sentence_is_read_on_its_scale(raw, expected):
    assert read_score(raw, 10).value == expected


@pytest.mark.parametrize(
    "raw",
    [
        *[f'{{"score": 4, "{name}": 5}}' for name in ("total", "Total", "overall", "sum", "final")],
        '{"score": 4, "total": "5"}',
        '{"score": 4, "total": 20}',
        '{"color_score": 4, "total": 5}',
        '[{"score": 4}, {"total": 5}]',
        *[f"Score: 4{separator}5" for separator in ("\nTotal: ", ", total: ", "\nOverall: ")],
        "总分10分，得分8分",
    ],
)
def test_a_total_that_differs_from_the_only_score_makes_the_answer_unscored(raw):
    reading = read_score(raw, 10)
    assert reading.value is None and reading.unscored != "the answer holds no score"


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ('{"score": 4, "total": 4.0}', 4),
        ('{"score": 4, "total": {"cups": 5}}', 4),
        ('{"score": 4, "overall": "good, with 3 cups"}', 4),
        ('{"score": 4, "total": 5, "max_score": 5}', None),
        ("Score: 8. Overall: 3 cups are right.", 8),
        ("Score: 8\nTotal: 8", 8),
    ],
)
def test_a_total_that_says_the_same_or_is_no_score_changes_nothing(raw, expected):
    assert read_score(raw, 10).value == expected


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        *[
            (raw, 8)
            for raw in ("得分8分", "得分 8 分", "总分8分", "最终得分八分", "评分8", "得分8/10", "打分4/5")
        ],
        *[
            (raw, 8)
            for raw in ("得分4分（满分5分）", "满分5分，得分4分", "我给这张图打8分。", "扣2分，得8分")
        ],
        ("得分8.5分", 8.5),
        *[
            (raw, None)
            for raw in ("评分十分合理", "得分点3", "得分8到9分", "颜色给3分，布局给5分", "得8分钟")
        ],
    ],
)
def test_chinese_scores_need_no_colon(raw, expected):
    assert read_score(raw, 10).value == expected


PIECES = [
    *("Score", "final", "rating", " of ", ": ", "(", ")", "/", "-", " out of ", "4", "10", "0.5", "½", "%"),
    *("seven", " and a half", "{", "}", '"score"', '"max_score"', '"scale"', ",", "[", "]", "on a scale of "),
    *(
        "分数",
        "：",
        "九",
        "分",
        "满分",
        "制",
        "max score ",
        "<score>",
        "</score>",
        "\\boxed{",
        "I give this a ",
        '"total"',
        "inf",
        "1e999",
    ),
]


@given(
    st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=25).map("".join),
    st.sampled_from(["stop", "length"]),
    st.sampled_from([1, 5, 10, 100]),
)
def test_any_words_read_as_a_value_on_the_scale_or_a_reason(text, finish, most):
    reading = read_score(text, most, finish)
    assert (reading.value is None) == bool(reading.unscored)
    assert reading.value is None or 0 <= reading.value <= most
