"""Files of human scores: what they mean, and what is refused before anything runs."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from harness.evaluation.human_scores import HumanScores, read_human_scores
from harness.types import Prompt

PROMPTS = [Prompt(id=f"color/{number:04d}", text="x", category="color") for number in range(3)]


def rated(prompt: int, number: int = 0, score: Any = 3) -> dict[str, Any]:
    return {"prompt_id": f"color/{prompt:04d}", "number": number, "score": score}


def read(tmp_path: Path, *rows: dict[str, Any]) -> HumanScores:
    file = tmp_path / "people.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return read_human_scores(file)


def test_a_row_is_an_image_of_a_prompt_and_several_raters_are_averaged(tmp_path):
    without_number = {"prompt_id": "color/0001", "score": -2.5, "rater": "ignored"}
    found = read(tmp_path, rated(0, 1, [4, 5, 3.5]), without_number)
    assert found.score_by_image == {("color/0000", 1): pytest.approx(25 / 6), ("color/0001", 0): -2.5}
    assert found.of(Prompt(id="color/0000", text="x", category="color", number=1)) == pytest.approx(25 / 6)
    assert found.of(PROMPTS[0]) is None


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([rated(0), {"score": 4}], "line 2 of FILE is not a score of an image, .*: it has no 'prompt_id'"),
        ([rated(0), {"prompt_id": "color/0001"}], "line 2 of FILE .* it has no 'score'"),
        ([{"prompt_id": 7, "score": 4}], "line 1 of FILE .* prompt_id 7 is no text"),
        ([rated(0, -1)], "line 1 of FILE .* number=-1: give a whole number from 0"),
        (
            [rated(0, score="good")],
            "line 1 of FILE .* score 'good' is neither a number nor a list of numbers",
        ),
        ([rated(0, score=True)], "line 1 of FILE .* score True is neither"),
        ([rated(0, score=[])], "line 1 of FILE .* score \\[\\] is neither"),
        ([rated(0, score=[4, None])], "line 1 of FILE .* score \\[4, None\\] is neither"),
        ([rated(0, score=float("nan"))], "line 1 of FILE .* score nan is neither"),
        (
            [rated(0), rated(1), rated(0, score=4)],
            "lines 1 and 3 of FILE are both of image 0 of prompt 'color/0000': keep one",
        ),
        ([rated(0), rated(1)], "FILE has 2 images and no two different scores"),
        ([], "FILE has 0 images and no two different scores"),
    ],
)
def test_a_row_that_is_no_score_is_refused_with_its_line(tmp_path, rows, message):
    expected = message.replace("FILE", re.escape(str(tmp_path / "people.jsonl")))
    with pytest.raises(ValueError, match=expected):
        read(tmp_path, *rows)


def test_a_file_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"people\.jsonl cannot be read: No such file"):
        read_human_scores(tmp_path / "people.jsonl")


def test_scores_of_other_images_are_refused_with_the_nearest_prompt(tmp_path):
    found = read(tmp_path, rated(0), {"prompt_id": "colour/0002", "score": 4})
    with pytest.raises(ValueError, match=r"line 2 of .* has prompt_id 'colour/0002'.*mean 'color/0002'\?"):
        found.check(PROMPTS, 1, allow_partial=True)
    with pytest.raises(
        ValueError, match=r"line 1 of .* has number 2, and a prompt has 2 images .* give 0 to 1"
    ):
        read(tmp_path, rated(0, 2), rated(1, score=4)).check(PROMPTS, 2, allow_partial=True)


def test_images_without_a_score_are_counted_and_need_a_word(tmp_path):
    found = read(tmp_path, rated(0), rated(1, 1, 4))
    with pytest.raises(ValueError, match=r"has scores of 2 of 6 images.*agreement\.allow_partial=true"):
        found.check(PROMPTS, 2, allow_partial=False)
    found.check(PROMPTS, 2, allow_partial=True)
    whole = read(tmp_path, rated(0), rated(1, score=4), rated(2))
    whole.check(PROMPTS, 1, allow_partial=False)
