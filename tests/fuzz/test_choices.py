"""Answers of judges about two chains: right, damaged and senseless ones."""

from __future__ import annotations

import json
import re

from hypothesis import example, given
from hypothesis import strategies as st
from mini_foreign import ANY_BYTES, JSON, altered, damaged

from harness.experts.judge.choices import read_choice

ANSWERS = (
    b'{"reasoning": "B lacks the square.", "selected": "A"}',
    b"Reasoning: both name the square.\nSelected Caption: B",
    b'The better one:\n```json\n{"selected": "tie"}\n```',
    b"**Selected Caption:** Caption A, because its boxes fit.",
)
PIECES = st.sampled_from(
    [
        *(
            "Selected",
            "Selected Caption",
            "Winner",
            "selected",
            "Caption",
            "A",
            "B",
            "tie",
            "both",
            "neither",
        ),
        *(":", ": ", " is ", " ", "\n", ",", ".", "or", "and", "but", "not", '"', "{", "}", "[", "]", "**"),
        *("because", "Reasoning: ", "I cannot", "</think>", "<think>", "```", "red circle"),
    ]
)
TEXTS = st.one_of(
    *(damaged(answer) for answer in ANSWERS),
    ANY_BYTES,
    st.lists(PIECES, max_size=14).map(lambda pieces: "".join(pieces).encode()),
).map(lambda content: content.decode(errors="replace"))
LETTERS = re.compile(r"(?<![A-Za-z])[AB](?![A-Za-z])")


@given(TEXTS)
@example('{"a":' * 3000)
@example("selected: " * 3000)
@example("Selected Caption: A\n" * 3000)
@example("the " * 3000 + "answer")
@example("Selected: both" + " equally" * 3000)
def test_no_text_is_an_error_and_no_choice_comes_from_nowhere(text: str) -> None:
    choice = read_choice(text, ties=True)
    assert (choice.value is None) == bool(choice.unscored)
    if choice.value in ("A", "B"):
        assert choice.value in text or choice.value.lower() in text
    forced = read_choice(text, ties=False)
    assert forced.value == (None if choice.value == "tie" else choice.value)
    assert read_choice(text, ties=True, finish_reason="length").value is None


@given(st.lists(PIECES, max_size=14).map("".join))
def test_neither_letter_is_favored(text: str) -> None:
    exchanged = LETTERS.sub(lambda match: {"A": "B", "B": "A"}[match.group()], text)
    expected = {"A": "B", "B": "A", "tie": "tie", None: None}[read_choice(text, ties=True).value]
    if not re.search(r"[AB]\s+(?:tie|both|neither)", text):  # "A tie" has an article
        assert read_choice(exchanged, ties=True).value == expected


@given(altered({"reasoning": "it fits", "selected": "A", "more": {"winner": "B"}}) | JSON)
def test_a_choice_in_json_is_the_one_that_is_written_there(value) -> None:
    choice = read_choice(json.dumps(value), ties=True)
    written = value.get("selected") if isinstance(value, dict) else None
    if written == "A":
        assert choice.value == "A"
    if isinstance(written, int | float | dict):
        assert choice.value is None
