"""Scores of many images: every tag counts the same, and one right image makes a prompt right."""

from __future__ import annotations

import pytest

from benchmarks.geneval.summary import summarise

IMAGES = [
    ("counting", "two cows", True),
    ("counting", "two cows", False),
    ("counting", "two dogs", False),
    ("counting", "two dogs", False),
    ("colors", "a red cow", True),
]


def test_every_tag_counts_the_same_however_many_images_it_has() -> None:
    summary = summarise(IMAGES)
    assert {tag: share.mean for tag, share in summary.tags.items()} == {"counting": 0.25, "colors": 1.0}
    assert summary.overall == 0.625 and summary.images.mean == 0.4


def test_a_prompt_is_right_where_one_of_its_images_is() -> None:
    prompts = summarise(IMAGES).prompts
    assert (prompts.correct, prompts.count) == (2, 3)


def test_it_prints_as_the_official_program_does() -> None:
    assert summarise(IMAGES).text() == (
        "Summary\n=======\nTotal images: 5\nTotal prompts: 3\n% correct images: 40.00%\n% correct "
        "prompts: 66.67%\n\n"
        "Task breakdown\n==============\ncounting         = 25.00% (1 / 4)\ncolors           = "
        "100.00% (1 / 1)\n\n"
        "Overall score (avg. over tasks): 0.62500\n"
    )


def test_a_tag_without_images_does_not_count() -> None:
    assert summarise(IMAGES[:4]).overall == 0.25


def test_nothing_cannot_be_summed_up() -> None:
    with pytest.raises(ValueError, match="no judged image"):
        summarise([])
