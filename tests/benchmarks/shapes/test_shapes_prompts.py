from __future__ import annotations

import json
from random import Random

import pytest

from benchmarks.shapes.facts import Facts
from benchmarks.shapes.prompts import CATEGORIES, distinct_prompts, parse_prompt, sample_facts, write_prompt
from benchmarks.shapes.relations import SIZES, SPATIAL
from benchmarks.shapes.vocabulary import Attributes, read_attributes

RED_CIRCLE = Attributes(shape="circle", color="red")
BLUE_SQUARE = Attributes(shape="square", color="blue")


@pytest.mark.parametrize("category", CATEGORIES)
def test_every_prompt_reads_back(category):
    rng = Random(3)
    for _ in range(1500):
        facts = sample_facts(rng, category)
        assert parse_prompt(write_prompt(facts, category)) == facts
        assert Facts.read(json.loads(json.dumps(facts.plain()))) == facts


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a red circle and a blue square", Facts(objects=(RED_CIRCLE, BLUE_SQUARE))),
        ("  A Red circle  and a blue square. ", Facts(objects=(RED_CIRCLE, BLUE_SQUARE))),
        ("a red circle", Facts(objects=(RED_CIRCLE,))),
        ("a red round tile and a blue square tile", Facts(objects=(RED_CIRCLE, BLUE_SQUARE))),
        (
            "a red circle on the left of a blue square",
            Facts(objects=(RED_CIRCLE, BLUE_SQUARE), relation="on the left of", phrasing="direct"),
        ),
        (
            "a blue square with a red circle on its left",
            Facts(objects=(RED_CIRCLE, BLUE_SQUARE), relation="on the left of", phrasing="inverse"),
        ),
        (
            "a blue square with a bigger red circle",
            Facts(objects=(RED_CIRCLE, BLUE_SQUARE), relation="bigger than", phrasing="inverse"),
        ),
        (
            "a red circle next to a blue square and a striped green triangle",
            Facts(
                objects=(
                    RED_CIRCLE,
                    BLUE_SQUARE,
                    Attributes(shape="triangle", color="green", texture="striped"),
                ),
                relation="next to",
                phrasing="direct",
            ),
        ),
    ],
)
def test_known_texts(text, expected):
    assert parse_prompt(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a cat on a mat",
        "a red blue circle",
        "a red circle above a blue square",
        "red circle",
        "a circle and a dog",
    ],
)
def test_other_texts_are_not_read(text):
    assert parse_prompt(text) is None


def test_both_phrasings_and_all_relations_occur():
    rng = Random(0)
    drawn = [
        sample_facts(rng, category)
        for category in ("2D-spatial", "non-spatial", "complex")
        for _ in range(300)
    ]
    assert {(facts.relation, facts.phrasing) for facts in drawn} == {
        (word, phrasing) for word in SPATIAL + SIZES for phrasing in ("direct", "inverse")
    }


def test_too_few_prompts_is_a_clear_error():
    with pytest.raises(ValueError, match=r"texture has too few different prompts.*val_per_category"):
        distinct_prompts(Random(0), "texture", [False], taken=_Everything())


class _Everything(set):
    def __contains__(self, text: object) -> bool:
        return True


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("red striped circle", Attributes(shape="circle", color="red", texture="striped")),
        ("A ROUND tile", Attributes(shape="circle")),
        ("diamond-shaped thing, cyan", Attributes(shape="diamond", color="cyan")),
        ("something red", Attributes(color="red")),
        ("red blue circle", None),
        ("bouquet of tulips", None),
        ("", None),
    ],
)
def test_names_are_read_by_their_words(name, expected):
    assert read_attributes(name) == expected
