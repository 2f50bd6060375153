"""Parses prompts by rules alone, where no spaCy model is installed. Its scores are never called
official.
"""

from __future__ import annotations

import functools

from benchmarks.t2i_compbench.language import chunker, tagger
from benchmarks.t2i_compbench.language.tokens import Token, offsets, tokenize


class Rules:
    """Tags and noun chunks from a small lexicon and the words around a word (`tagger`, `chunker`)."""

    name = "rules"
    external: tuple[str, ...] = ()

    def tokens(self, text: str) -> tuple[Token, ...]:
        return _analysed(text)[0]

    def chunks(self, text: str) -> tuple[str, ...]:
        return _analysed(text)[1]


@functools.lru_cache(maxsize=65536)
def _analysed(text: str) -> tuple[tuple[Token, ...], tuple[str, ...]]:
    every = tokenize(text)
    placed = [
        (word, start) for word, start in zip(every, offsets(text, every), strict=True) if not word.isspace()
    ]
    words = [word for word, _ in placed]
    spans = [(start, start + len(word)) for word, start in placed]
    hyphens = [
        word == "-"
        and 0 < place < len(words) - 1
        and spans[place - 1][1] == spans[place][0]
        and spans[place][1] == spans[place + 1][0]
        for place, word in enumerate(words)
    ]
    tags = tagger.tag(words, hyphens)
    chunks = tuple(
        text[spans[first][0] : spans[end - 1][1]] for first, end in chunker.chunks(words, tags, hyphens)
    )
    coarse = iter(tagger.coarse(tag) for tag in tags)
    return tuple(Token(word, "SPACE" if word.isspace() else next(coarse)) for word in every), chunks
