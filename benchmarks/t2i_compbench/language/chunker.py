"""Noun phrases by rules, as spaCy's `noun_chunks` cuts them: from the article or first modifier to the
noun, no further.

Articles, numerals, adjectives (joined by commas and `and` too), participles before the noun, compounds
and possessors belong to a chunk; a pronoun is one of its own; a preposition, a verb or a second article
ends it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from benchmarks.t2i_compbench.language.lexicon import words_of

CODES = {
    "DET": "D",
    "PRON:poss": "D",
    "ADJ": "J",
    "VERB:mod": "J",
    "NUM": "J",
    "ADV": "R",
    "NOUN": "N",
    "PROPN": "N",
    "PRON": "P",
    "CCONJ": "&",
}
# One letter a token: D article or possessive, J modifier, M material, N noun, R adverb, s possessive
# ending, c comma, P pronoun. A list of modifiers joins only modifiers: `a black and white cat` is one
# phrase, `a cat and a dog` two.
_MODIFIERS = "(?:R*J(?:c?&?(?=R*[JM])|c(?=N))?|M(?:c?&(?=[JM][JMN]))?|N)*"
_CORE = f"D*{_MODIFIERS}[MN]"
PHRASE = re.compile(f"(?:{_CORE}s)*{_CORE}|P")


def chunks(words: Sequence[str], tags: Sequence[str], hyphens: Sequence[bool]) -> list[tuple[int, int]]:
    """The noun phrases as spans of tokens, the end not included."""
    codes = [_code(word.lower(), tag) for word, tag in zip(words, tags, strict=True)]
    for place in reversed(range(len(codes))):
        if hyphens[place]:  # a hyphenated word is what its last part is
            codes[place - 1] = codes[place] = codes[place + 1]
    return [match.span() for match in PHRASE.finditer("".join(codes))]


def _code(word: str, tag: str) -> str:
    if word == ",":
        return "c"
    if tag == "PART" and word in ("'s", "'"):
        return "s"
    return "M" if tag == "NOUN" and word in words_of("materials") else CODES.get(tag, "x")
