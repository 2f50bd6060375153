"""The choice between A and B in answers as judges write them."""

from __future__ import annotations

import pytest

from harness.experts.judge.choices import Choice, read_choice

A = (
    '{"reasoning": "it has both", "selected": "A"}',
    "Reasoning: the first has both.\nSelected Caption: A",
    "**Selected Caption:** A",
    "**Selected Caption**: Caption A.",
    "### Selected Caption:\n\nA",
    "Selected Caption\nA",
    "Selected Caption - A",
    "Reasoning: complete. Selected Caption: A",
    "Selected Caption: A Reasoning: B lacks an object.",
    'Selected Caption: "A"',
    "Selected Caption: [A]",
    "Selected Caption: \\boxed{A}",
    "Selected Caption: a",
    "Selected Caption: A, because B lacks the color.",
    "Selected Caption: A (more complete)",
    "Selected caption: A is better",
    "Selected: Description A",
    "The selected chain is A.",
    "- Selected Description: A",
    "Not selected: B\nSelected: A",
    "Selected: A\nNot selected: B",
    "Winner: A",
    "My choice is A",
    "The better description is A.",
    "Final answer: A",
    "Both fit.\n\nA",
    "Caption A",
    '```json\n{"reasoning": "fits", "selected": "Description A"}\n```',
    "{'reasoning': 'B\\'s box is off', 'selected': 'A'}",
    '{"Selected Caption": "A"}',
    '{"selected_caption": "A", "reasoning": "fits"}',
    '{"choice": "chain: A"}',
    '{"winner": "caption a"}',
    '{"selected": ["A"]}',
    '{"selected": "A"',
    '{"aspects": [{"winner": "A"}, {"winner": "B"}], "winner": "A"}',
    '{"reasoning": "B cannot be drawn", "selected": "A"}',
    '{"selected": "B"} No, its boxes overlap: {"selected": "A"}',
    "<think>B? Selected: B</think>Selected Caption: A",
    "Selected Caption: Ａ",
)
TIE = (
    '{"reasoning": "the same text", "selected": "tie"}',
    '{"selected": "a tie"}',
    '{"selected": "equal"}',
    '{"selected": "equally good"}',
    "Selected Caption: both",
    "Selected Caption: Both A and B",
    "Selected Caption: A and B are equal.",
    "Selected Caption: Caption B & caption A",
    "Selected Caption: Neither is better.",
    "Selected: no preference",
    "It is a tie.",
)
UNREADABLE = (
    None,
    "",
    "  \n",
    "<think>A or B",
    '{"selected": "A" | "B" | "tie"}',
    "Selected Caption: A or B",
    "Selected Caption: A/B",
    "Selected Caption: A > B",
    "Selected Caption: A red circle on the left of a blue square",
    "Selected Caption: a red circle",
    "Selected Caption: A, although B is better",
    "Selected caption: A is not better",
    "Selected Caption: not A",
    "Selected Caption: A and B are good but B is better",
    "Selected Caption: both, but A is better",
    "Selected Caption: the first",
    "Selected Caption: 1",
    "Selected Caption: none",
    "Selected Caption:",
    "I cannot give a Selected Caption: A",
    "I can't choose.",
    "A has the colors. B has the boxes.",
    '{"selected": null}',
    '{"selected": true}',
    '{"selected": {"A": 0.7, "B": 0.3}}',
    '{"selected": ["A", "B"]}',
    '{"selected": "A", "selected": "B"}',
    '{"selected": "A", "winner": "B"}',
    '{"selected": "A',
    '{"selected": "A"}\nSelected Caption: B',
    "A\nB",
)


def exchanged(text: str) -> str:
    """The answer of a judge that saw the two descriptions in the other order."""
    return text.translate(str.maketrans("ABＡＢ", "BAＢＡ"))


@pytest.mark.parametrize("answer", A)
def test_the_choice_of_an_answer_is_read(answer):
    assert read_choice(answer, ties=True) == Choice("A")
    assert read_choice(answer, ties=False) == Choice("A")


@pytest.mark.parametrize("answer", [answer for answer in A if " a" not in answer and "A (" not in answer])
def test_both_letters_are_read_alike(answer):
    assert read_choice(exchanged(answer), ties=True) == Choice("B")


@pytest.mark.parametrize("answer", TIE)
def test_a_tie_is_a_choice_where_the_question_allows_one(answer):
    assert read_choice(answer, ties=True) == Choice("tie")
    assert read_choice(answer, ties=False) == Choice(
        None, "the answer is a tie, and the question allows none"
    )


@pytest.mark.parametrize("answer", UNREADABLE)
def test_what_is_not_clearly_a_choice_is_unreadable(answer):
    choice = read_choice(answer, ties=True)
    assert choice.value is None and choice.unscored


@pytest.mark.parametrize(
    ("finish", "reason"),
    [
        ("length", "cut at the token limit"),
        ("content_filter", "ended with 'content_filter'"),
        ("refusal", "ended with 'refusal'"),
    ],
)
def test_an_answer_that_did_not_end_by_itself_is_unreadable(finish, reason):
    choice = read_choice('{"selected": "A"}', ties=True, finish_reason=finish)
    assert choice.value is None and reason in str(choice.unscored)
