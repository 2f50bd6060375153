"""BLIP-VQA: the questions of noun phrases and the score of their answers, in both modes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.mode import Mode
from benchmarks.t2i_compbench.rules.questions import clean, product, questions

MODES: tuple[Mode, ...] = ("official", "corrected")


@pytest.mark.parametrize("mode", MODES)
def test_a_phrase_becomes_a_question(mode: Mode) -> None:
    assert questions(["a Red vase", "the chef's knives"], mode=mode) == ("a Red vase?", "the chef's knives?")
    assert questions([], mode=mode) == ()


@pytest.mark.parametrize("mode", MODES)
def test_the_first_eight_are_asked_that_are_not_left_out(mode: Mode) -> None:
    chunks = ["top", *(f"a vase of kind {number}" for number in range(10))]
    assert questions(chunks, mode=mode) == tuple(f"{chunk}?" for chunk in chunks[1:9])


@pytest.mark.parametrize("chunk", ["top", "the side", "the left", "the right"])
def test_four_phrases_are_left_out_in_both_modes(chunk: str) -> None:
    assert [questions([chunk, "a vase"], mode=mode) for mode in MODES] == [("a vase?",)] * 2


@pytest.mark.parametrize(
    "chunk",
    [
        "Top",
        "The Left",
        "the top",
        "the bottom",
        "front",
        "the middle",
        "the left side",
        "one side",
        "the other",
        "it",
        "They",
        "which",
        "  ",
    ],
)
def test_pronouns_and_places_are_asked_officially(chunk: str) -> None:
    """Q16."""
    assert [questions([chunk], mode=mode) for mode in MODES] == [(f"{chunk}?",), ()]


@pytest.mark.parametrize(
    "chunk", ["a top hat", "the right hand", "the side table", "a back yard", "an it girl", "the other vase"]
)
def test_things_that_are_named_with_such_words_are_asked(chunk: str) -> None:
    assert [questions([chunk], mode=mode) for mode in MODES] == [(f"{chunk}?",)] * 2


@pytest.mark.parametrize(
    ("question", "cleaned"),
    [
        ("The Red Hat?", "the red hat?"),
        ('a "quote" (here)!?', "a quote here?"),
        ("an 11:44 clock; #1 *~?", "an 1144 clock 1 ?"),
        ("the chef's post-it, please?", "the chef's post-it, please?"),
        ("  led and trailed  ", "  led and trailed"),
        ("two  spaces?", "two  spaces?"),
        ("a.", "a"),
        ("", ""),
        (" ".join(["w"] * 51) + "?", " ".join(["w"] * 50)),
    ],
)
def test_cleaning(question: str, cleaned: str) -> None:
    assert clean(question) == cleaned


def test_perfect_wrong_and_unasked() -> None:
    assert [product([1.0, 1.0], mode=mode) for mode in MODES] == [1.0, 1.0]
    assert [product([1.0, 0.0], mode=mode) for mode in MODES] == [0.0, 0.0]
    assert [product([], mode=mode) for mode in MODES] == [1.0, None]


def test_the_official_score_is_rounded_twice() -> None:
    """Q15: each answer, and their product; and the product is one of float32 numbers."""
    assert product([0.00004, 1.0], mode="official") == 0.0
    assert product([0.12344, 0.12344], mode="official") == 0.0152
    assert product([0.01, 0.0049], mode="official") == 0.0
    assert product([0.01, 0.0051], mode="official") == 0.0001
    assert product([0.00004], mode="corrected") == 0.00004


def test_the_official_score_is_a_product_the_corrected_one_a_geometric_mean() -> None:
    """Q17."""
    assert product([0.9] * 8, mode="official") == 0.4305
    assert product([0.9] * 8, mode="corrected") == pytest.approx(0.9)
    assert product([0.25, 1.0], mode="corrected") == pytest.approx(0.5)


answers = st.lists(st.floats(0, 1), min_size=1, max_size=8)


@given(answers)
def test_the_official_score_is_that_of_eight_answers_in_float32(probabilities: list[float]) -> None:
    score = np.float32(float(f"{probabilities[0]:.4f}"))
    for answer in [
        *(float(f"{probability:.4f}") for probability in probabilities[1:]),
        *[1.0] * (8 - len(probabilities)),
    ]:
        score = np.float32(score * np.float32(answer))
    assert product(probabilities, mode="official") == float(f"{score:.4f}")


@given(answers)
def test_a_score_lies_between_the_answers(probabilities: list[float]) -> None:
    mean = product(probabilities, mode="corrected")
    assert mean is not None and math.isfinite(mean)
    assert min(probabilities) - 1e-9 <= mean <= max(probabilities) + 1e-9
    official = product(probabilities, mode="official")
    assert official is not None and 0 <= official <= min(probabilities) + 1e-4
