"""The words of a prompt, as the rules see them."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Token:
    """A word or mark; `pos` is its coarse part of speech as spaCy names them (NOUN, PROPN, ADJ, VERB,
    ADP, DET, ...).
    """

    text: str
    pos: str


@functools.lru_cache(maxsize=65536)
def tokenize(text: str) -> tuple[str, ...]:
    """The words and marks of a text by spaCy's English tokenizer, which is rules and needs no model
    (equal in 3.5 and 3.8).
    """
    return tuple(token.text for token in _tokenizer()(text))


def offsets(text: str, words: tuple[str, ...]) -> tuple[int, ...]:
    """Where each token of `tokenize(text)` begins in the text, in characters."""
    places, end = [], 0
    for word in words:
        places.append(text.index(word, end))
        end = places[-1] + len(word)
    return tuple(places)


@functools.cache
def _tokenizer() -> Any:
    import spacy

    return spacy.blank("en").tokenizer
