"""Which two objects a spatial prompt names, and in which relation (spec sections 5, 6 and 7)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain, pairwise

from benchmarks.t2i_compbench.language.tokens import Token
from benchmarks.t2i_compbench.rules.nouns import PERSONS, singular

PREPOSITIONS = {  # as complex prompts word them -> the locality they mean in corrected mode
    "on top of": "on top of",
    "on bottom of": "on bottom of",
    "on the left": "on the left of",
    "on the right": "on the right of",
    "on side of": "on side of",
    "next to": "next to",
    "near": "near",
}
MORE_PREPOSITIONS = {
    **PREPOSITIONS,
    "on the top": "on the top of",
    "on the bottom": "on the bottom of",
}  # which the official scan lacks
DEPTH_PREPOSITIONS = {
    "in front of": "in front of",
    "behind": "behind",
    "hidden by": "hidden",
    "hidden": "hidden",
}

Objects = tuple[str | None, str | None]


@dataclass(frozen=True)
class Said:
    """What a prompt says: `objects` stand in the relation `locality`; None where the rule finds none."""

    objects: Objects
    locality: str | None


def first_and_last_noun(prompt: str, tokens: Sequence[Token]) -> Objects:
    """The objects of a simple prompt in official mode.

    Raises:
        ValueError: no word is tagged as a noun; the official script stops there.
    """
    nouns = [token.text for token in tokens if token.pos == "NOUN"]
    if not nouns:
        raise ValueError(
            f"no word of the prompt {prompt!r} is tagged as a noun, and the official script stops at that"
        )
    return _person(nouns[0]), _person(nouns[-1])


def around_preposition(tokens: Sequence[Token]) -> Objects:
    """The objects of a complex prompt in official mode, none unless they are exactly two."""
    around = list(chain.from_iterable(nouns for _, nouns in _relations(tokens, PREPOSITIONS)))
    return (_person(around[0]), _person(around[1])) if len(around) == 2 else (None, None)


def corrected(
    prompt: str,
    tokens: Sequence[Token],
    *,
    complex_prompt: bool,
    prepositions: Mapping[str, str] = MORE_PREPOSITIONS,
) -> Said:
    """What a prompt says in corrected mode, in lower case and in the singular (Q3).

    A simple prompt is read by its template, "a X R a Y" (Q23); a complex one, and a simple one that is
    worded in another way, by the nouns around its preposition.

    Raises:
        ValueError: it does not say exactly one relation of two objects.
    """
    template = None if complex_prompt else _template(tuple(prepositions)).fullmatch(prompt.lower())
    if template:
        return Said((singular(template["x"]), singular(template["y"])), _spelt(template["r"], prepositions))
    said = list(_relations([Token(token.text.lower(), token.pos) for token in tokens], prepositions))
    if sum(len(own) for _, own in said) != 2 or len(said[0][1]) != 2:
        raise ValueError(
            f"the prompt {prompt!r} does not say exactly one relation of two objects; known are "
            f"{', '.join(prepositions)}"
        )
    (phrase, (first, second)) = said[0]
    return Said((singular(first), singular(second)), prepositions[phrase])


def _person(noun: str) -> str:
    return "person" if noun in PERSONS else noun


@cache
def _template(prepositions: tuple[str, ...]) -> re.Pattern[str]:
    relations = "|".join(f"{words} of" if words.startswith("on the ") else words for words in prepositions)
    return re.compile(
        rf"\s*(?:an?|the) (?P<x>[\w'-]+) (?:(?:is|are|was|were) )?"
        rf"(?P<r>{relations}) (?:an?|the) (?P<y>[\w'-]+)\s*\.?\s*"
    )


def _spelt(relation: str, prepositions: Mapping[str, str]) -> str:
    return prepositions.get(relation) or prepositions[relation.removesuffix(" of")]


def _relations(tokens: Sequence[Token], prepositions: Mapping[str, str]) -> Iterator[tuple[str, list[str]]]:
    """Every preposition with the objects that it relates: the nearest noun before it, and the first one
    after.
    """
    words = [token.text for token in tokens]
    for start in range(len(tokens)):
        for length in (3, 2, 1):
            phrase = " ".join(words[start : start + length])
            if phrase in prepositions:
                yield phrase, [*_before(tokens[:start]), *_after(tokens[start + length :])]
                break


def _before(tokens: Sequence[Token]) -> list[str]:
    return [token.text for token in reversed(tokens) if token.pos in ("NOUN", "PROPN")][:1]


def _after(tokens: Sequence[Token]) -> list[str]:
    """The first noun; where there is none, the end of the first run of proper nouns that does not end the
    prompt.
    """
    for token in tokens:
        if token.pos == "NOUN":
            return [token.text]
    for token, following in pairwise(tokens):
        if token.pos == "PROPN" and following.pos != "PROPN":
            return [token.text]
    return []
