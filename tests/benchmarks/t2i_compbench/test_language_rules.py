"""The rule-based reading of prompts: cases by hand, and properties of every text."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.t2i_compbench.files import STEMS, prompt_file, read_prompts
from benchmarks.t2i_compbench.language.lexicon import CLOSED, readings, words_of
from benchmarks.t2i_compbench.language.rules import Rules

RULES = Rules()
COARSE = {
    "NOUN",
    "PROPN",
    "PRON",
    "ADJ",
    "VERB",
    "ADP",
    "DET",
    "NUM",
    "CCONJ",
    "SCONJ",
    "PUNCT",
    "ADV",
    "AUX",
    "PART",
    "INTJ",
    "SPACE",
}

# One case for every rule of the chunker and the tagger.
CHUNKS = {
    "a red car and a blue book": ["a red car", "a blue book"],
    "rubber sole shoes and fluffy clouds": ["rubber sole shoes", "fluffy clouds"],
    "A black and white cat": ["A black and white cat"],
    "a plastic and metallic chair": ["a plastic and metallic chair"],
    "The plump, juicy grapes": ["The plump, juicy grapes"],
    "a table, a chair, and two lamps": ["a table", "a chair", "two lamps"],
    "a rectangular piece of lasagna": ["a rectangular piece", "lasagna"],
    "a pentagonal post-it note": ["a pentagonal post-it note"],
    "a sun-drenched, crystal-clear lake": ["a sun-drenched, crystal-clear lake"],
    "The sharp blades of the chef's knives": ["The sharp blades", "the chef's knives"],
    "a cutting board and a magnifying glass": ["a cutting board", "a magnifying glass"],
    "The fluffy clouds are white and the sky is blue.": ["The fluffy clouds", "the sky"],
    "The dog chased its ball and it rolled away.": ["The dog", "its ball", "it"],
    "A man who is holding a painting of her": ["A man", "who", "a painting", "her"],
    "There are two dogs behind it.": ["two dogs", "it"],
    "The red book is on top of the yellow shelf.": ["The red book", "top", "the yellow shelf"],
    "a dog on the left of a vase": ["a dog", "the left", "a vase"],
    "The red apple sits in front of it": ["The red apple", "front", "it"],
    "The soft light shone on an orange": ["The soft light", "an orange"],
    "a very old oak tree": ["a very old oak tree"],
    "The plastic cup and metallic straw rest on the coaster.": [
        "The plastic cup",
        "metallic straw",
        "the coaster",
    ],
    "The tray with oval handles served drinks.": ["The tray", "oval handles", "drinks"],
    "A person is painting a wooden chair.": ["A person", "a wooden chair"],
    "melted chocolate on all the round cakes": ["melted chocolate", "all the round cakes"],
    "": [],
    "shiny": [],
    "...": [],
}


@pytest.mark.parametrize("text", CHUNKS)
def test_chunks(text):
    assert list(RULES.chunks(text)) == CHUNKS[text]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a red car", "DET ADJ NOUN"),
        ("The orange is orange .", "DET NOUN AUX ADJ PUNCT"),
        ("The wooden chair rests on it", "DET ADJ NOUN VERB ADP PRON"),
        ("she wants to paint it and they 're singing", "PRON VERB PART VERB PRON CCONJ PRON AUX VERB"),
        ("a dog has walked to Paris", "DET NOUN AUX VERB ADP PROPN"),
        ("a dog has a buried bone", "DET NOUN VERB DET VERB NOUN"),
        ("the chef 's knives", "DET NOUN PART NOUN"),
        ("the sun slowly sets while birds fly over it", "DET NOUN ADV VERB SCONJ NOUN VERB ADP PRON"),
        ("a sofa next to her table", "DET NOUN ADV ADP PRON NOUN"),
        ("two cans of soup", "NUM NOUN ADP NOUN"),
    ],
)
def test_tags(text, expected):
    assert " ".join(token.pos for token in RULES.tokens(text)) == expected


@pytest.mark.parametrize(
    ("word", "found"),
    [
        ("walked", {"past", "participle"}),
        ("stopping", {"ing"}),
        ("carries", {"third"}),
        ("rests", {"third", "noun"}),
        ("bed", {"noun"}),
        ("quokka", {"noun"}),
        ("gently", {"adv"}),
        ("zigzaggy", {"noun"}),
        ("ridiculous", {"adj"}),
        ("12", {"NUM"}),
        ("2nd", {"adj"}),
        (",", {"PUNCT"}),
        ("the", {"DET"}),
    ],
)
def test_readings(word, found):
    assert readings(word) == found


def test_first_and_last_noun_of_the_spatial_prompts_are_the_template_s(data_dir):
    relations = (
        " on the ",
        " on side of ",
        " next to ",
        " near ",
        " in front of ",
        " behind ",
        " hidden by ",
    )
    wrong = []
    for category in ("2D-spatial", "3D-spatial"):
        for part in ("val", "train"):
            for prompt in read_prompts(prompt_file(data_dir / "t2i_compbench", category, part)):
                relation = next(words for words in relations if words in prompt)
                nouns = [token.text for token in RULES.tokens(prompt) if token.pos == "NOUN"]
                template = [prompt.split(relation)[0].split()[-1], prompt.split()[-1]]
                wrong += [] if [nouns[0], nouns[-1]] == template else [(prompt, nouns)]
    assert not wrong


def test_three_thousand_prompts_are_read_in_seconds(data_dir):
    prompts = {
        prompt
        for category in STEMS
        for part in ("val", "train")
        for prompt in read_prompts(prompt_file(data_dir / "t2i_compbench", category, part))
    }
    RULES.chunks("loads the tokenizer")
    begin = time.process_time()
    for prompt in sorted(prompts)[:3000]:
        RULES.chunks(f" {prompt}")  # a text that no other test has asked for
    assert time.process_time() - begin < 5


def test_a_text_of_thousands_of_words_ends_in_time():
    begin = time.process_time()
    assert len(RULES.chunks("a smooth, red and metal " * 300 + "cat")) >= 1
    assert RULES.chunks("shiny, " * 2000 + "fluffy cats") == ("shiny, " * 2000 + "fluffy cats",)
    assert time.process_time() - begin < 5


KNOWN = sorted(
    words_of("nouns")
    | words_of("adjectives")
    | words_of("verbs")
    | words_of("adverbs")
    | frozenset().union(*CLOSED.values())
)


@given(
    st.lists(
        st.sampled_from([*KNOWN, ",", ".", "-", "'s", "and", "a", "the", "of", "Paris"]), max_size=25
    ).map(" ".join)
    | st.text(max_size=60)
)
def test_every_text_is_read(text):
    tokens, chunks = RULES.tokens(text), RULES.chunks(text)
    assert {token.pos for token in tokens} <= COARSE
    end = 0
    for chunk in chunks:  # in order, apart, and as they stand in the text
        assert chunk
        end = text.index(chunk, end) + len(chunk)
    assert len(chunks) <= sum(token.pos in ("NOUN", "PROPN", "PRON") for token in tokens)
