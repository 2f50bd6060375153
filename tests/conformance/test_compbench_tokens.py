"""The published tokens of the val prompts, by spaCy's tokenizer."""

from __future__ import annotations

import json

import pytest

from benchmarks.t2i_compbench.language.rules import Rules
from benchmarks.t2i_compbench.language.tokens import offsets, tokenize


@pytest.fixture(scope="module")
def published(conformance_dir) -> dict[str, list[str]]:
    file = conformance_dir / "t2i_compbench" / "compbench_spacy_tokens.json"
    if not file.is_file():
        pytest.skip(f"no {file}")
    return json.loads(file.read_text(encoding="utf-8"))["tokens"]


def test_every_published_prompt_is_cut_into_these_tokens(published):
    assert published
    assert not {text: tokenize(text) for text, tokens in published.items() if list(tokenize(text)) != tokens}


def test_the_rules_speak_of_the_same_tokens_and_find_them_in_the_text(published):
    for text, tokens in published.items():
        assert [token.text for token in Rules().tokens(text)] == tokens
        assert all(
            text.startswith(word, start)
            for word, start in zip(tokens, offsets(text, tuple(tokens)), strict=True)
        )
