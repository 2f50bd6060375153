"""How often the rules and the annotation file of T2I-R1 name the same phrases, measured on its
T2I-CompBench train prompts.

The file is machine-written and no spaCy output, so agreement is bounded by its errors; it leaves
out scenery, which the rules (as spaCy) keep, so sentences are judged by the share of annotated
phrases that are found, and equality is told beside it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import pytest

from benchmarks.t2i_compbench.annotations import Annotation, read_annotations
from benchmarks.t2i_compbench.language.rules import Rules

RULES = Rules()
TWO_PHRASES = re.compile(r"(?:an? )?[^A-Z,.]+ and (?:an? )?[^A-Z,.]+")
WITH_A_PREPOSITION_OR_VERB = re.compile(r"\b(?:of|with|has|in|on|behind)\b")
IRREGULAR = {
    "leaves": "leaf",
    "shelves": "shelf",
    "knives": "knife",
    "people": "person",
    "men": "man",
    "women": "woman",
    "mice": "mouse",
}


def singular(word: str) -> str:
    if word in IRREGULAR:
        return IRREGULAR[word]
    if word.endswith("ies") and len(word) > 4:
        return f"{word[:-3]}y"
    if re.search(r"(?:s|x|ch|sh)es$", word):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith(("ss", "us", "is")) else word


def plain(phrase: str) -> str:
    """Small letters, no article, the head in the singular; applied to both sides, so that only
    phrases are compared.
    """
    words = re.sub(r"^(?:an?|the|its|their|his|her|some) ", "", phrase.strip().lower()).split()
    return " ".join([*words[:-1], singular(words[-1])]) if words else ""


def is_two_phrases(prompt: str) -> bool:
    return (
        bool(TWO_PHRASES.fullmatch(prompt))
        and prompt.count(" and ") == 1
        and not WITH_A_PREPOSITION_OR_VERB.search(prompt)
    )


def ends(chunk: str, noun: str) -> bool:
    return chunk == noun or chunk.endswith(f" {noun}")


def same_heads(chunks: set[str], nouns: set[str]) -> bool:
    """Does every chunk end in one of the nouns, and every noun end one of the chunks?"""
    return (
        all(any(ends(chunk, noun) for noun in nouns) for chunk in chunks) and heads_found(chunks, nouns) == 1
    )


def heads_found(chunks: set[str], nouns: set[str]) -> float:
    return sum(any(ends(chunk, noun) for chunk in chunks) for noun in nouns) / len(nouns)


def mean(values: Iterable[float]) -> float:
    values = list(values)
    return sum(values) / len(values)


@pytest.fixture(scope="module")
def train(data_dir) -> list[tuple[str, set[str], Annotation]]:
    """Prompt, our phrases and what is annotated, without the GenEval-style `a photo of ...`."""
    file = data_dir / "t2i_r1" / "geneval_and_t2i_data_final.json"
    if not file.is_file():
        pytest.skip(f"no {file}")
    annotated = (
        (prompt, one) for prompt, one in read_annotations(file).items() if not prompt.startswith("a photo of")
    )
    return [(prompt, {plain(chunk) for chunk in RULES.chunks(prompt)}, one) for prompt, one in annotated]


@pytest.mark.parametrize(("task", "count"), [("color", 500), ("shape", 450), ("texture", 500)])
def test_two_phrase_prompts_agree_nearly_always(train, task, count):
    rows = [row for row in train if row[2].task == task and is_two_phrases(row[0])]
    attributes = mean(chunks == {plain(phrase) for phrase in one.attributes} for _, chunks, one in rows)
    heads = mean(same_heads(chunks, {plain(noun) for noun in one.nouns}) for _, chunks, one in rows)
    print(f"{task}, two phrases: {len(rows)} prompts, phrases {attributes:.1%}, heads {heads:.1%}")
    assert len(rows) > count
    assert attributes >= 0.96 and heads >= 0.96


@pytest.mark.parametrize(
    ("task", "equal_at_least", "found_at_least"),
    [("color", 0.15, 0.75), ("shape", 0.20, 0.91), ("texture", 0.37, 0.91)],
)
def test_sentences_hold_most_of_what_is_annotated(train, task, equal_at_least, found_at_least):
    rows = [row for row in train if row[2].task == task and not is_two_phrases(row[0])]
    wanted = [(chunks, {plain(phrase) for phrase in one.attributes}) for _, chunks, one in rows]
    equal = mean(chunks == phrases for chunks, phrases in wanted)
    found = sum(len(phrases & chunks) for chunks, phrases in wanted) / sum(
        len(phrases) for _, phrases in wanted
    )
    heads = mean(
        heads_found(chunks, {plain(noun) for noun in one.nouns}) for _, chunks, one in rows if one.nouns
    )
    print(
        f"{task}, sentences and others: {len(rows)} prompts, equal {equal:.1%}, annotated phrases "
        f"found {found:.1%}, heads {heads:.1%}"
    )
    assert equal >= equal_at_least and found >= found_at_least


@pytest.mark.parametrize(
    ("task", "found_at_least"), [("spatial", 0.99), ("numeracy", 0.95), ("complex", 0.95), ("non", 0.95)]
)
def test_the_annotated_nouns_of_other_categories_are_heads_of_chunks(train, task, found_at_least):
    rows = [row for row in train if row[2].task == task and row[2].nouns]
    found = mean(heads_found(chunks, {plain(noun) for noun in one.nouns}) for _, chunks, one in rows)
    print(f"{task}: {len(rows)} prompts, annotated nouns found {found:.1%}")
    assert found >= found_at_least
