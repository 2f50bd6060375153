"""The text that CLIP sees of a complex prompt, in both modes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.mode import Mode
from benchmarks.t2i_compbench.language.tokens import Token
from benchmarks.t2i_compbench.rules.captions import caption

MODES: tuple[Mode, ...] = ("official", "corrected")


def both(prompt: str, tokens: str) -> list[str]:
    """The captions of both modes; `tokens` are the prompt's, adjectives marked by a star: "*red vase"."""
    tagged = [
        Token(text=word.lstrip("*"), pos="ADJ" if word.startswith("*") else "NOUN") for word in tokens.split()
    ]
    return [caption(prompt, tagged, mode=mode) for mode in MODES]


@pytest.mark.parametrize(
    ("prompt", "tokens", "official", "corrected"),
    [
        ("The red vase.", "The *red vase .", "The vase .", "The vase."),
        ("The chef's knives.", "The chef 's knives .", "The chef 's knives .", "The chef's knives."),
        (
            "The soft, fluffy snow fell.",
            "The *soft , *fluffy snow fell .",
            "The , snow fell .",
            "The snow fell.",
        ),
        ("a blue-green bird", "a *blue - *green bird", "a - bird", "a bird"),
        ("a post-it note", "a post - it note", "a post - it note", "a post-it note"),
        ("The sky was blue.", "The sky was *blue .", "The sky was .", "The sky was."),
        (
            "Snow, white and red, fell",
            "Snow , *white and *red , fell",
            "Snow , and , fell",
            "Snow, and, fell",
        ),
        ("Soft snow", "*Soft snow", "snow", "snow"),
        ("It is red", "It is *red", "It is", "It is"),
        (
            "the red orange",
            "the red orange",
            "the red orange",
            "the red orange",
        ),  # only the part of speech decides
        ("two  spaces", "two spaces", "two spaces", "two  spaces"),
        ("red", "*red", "", ""),
        ("", "", "", ""),
    ],
)
def test_adjectives_are_left_out(prompt: str, tokens: str, official: str, corrected: str) -> None:
    """Q19."""
    assert both(prompt, tokens) == [official, corrected]


def test_a_word_that_stands_within_another_is_found_where_it_is() -> None:
    assert both("The bored red bee", "The bored *red bee")[1] == "The bored bee"


def test_tokens_of_another_prompt_are_refused() -> None:
    with pytest.raises(ValueError, match="'vase' is not where it should be in 'a bowl'"):
        both("a bowl", "a vase")


@given(st.lists(st.tuples(st.sampled_from(["red", "vase", "and", "is"]), st.booleans()), max_size=8))
def test_without_marks_both_modes_agree(words: list[tuple[str, bool]]) -> None:
    official, corrected = both(
        " ".join(word for word, _ in words), " ".join("*" * cut + word for word, cut in words)
    )
    assert official == corrected
