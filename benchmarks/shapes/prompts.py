"""Prompts in the six categories of T2I-CompBench: their facts, their wording, and the parser that
reads them back.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import combinations
from random import Random

from benchmarks.shapes.facts import Facts
from benchmarks.shapes.relations import DIRECTIONS, SIZES, SPATIAL
from benchmarks.shapes.vocabulary import (
    COLORS,
    NEUTRAL_NOUN,
    SHAPE_ADJECTIVES,
    SHAPES,
    TEXTURES,
    Attributes,
    read_attributes,
)

CATEGORIES = ("color", "shape", "texture", "2D-spatial", "non-spatial", "complex")
THREE_SHARE = 0.4  # of the color, shape, texture and complex prompts: three objects, not two
INVERSE_SHARE = 0.5  # of the prompts with a relation: the second object is named first
_ATTEMPTS = 20_000  # draws before a category counts as exhausted


def sample_facts(rng: Random, category: str) -> Facts:
    """What a random prompt of a category says; no two of its objects could be the same one."""
    count = 2 if category in ("2D-spatial", "non-spatial") or rng.random() >= THREE_SHARE else 3
    while True:
        objects = tuple(_sample_attributes(rng, category, count) for _ in range(count))
        if _distinct(category, objects):
            break
    words = {"2D-spatial": SPATIAL, "non-spatial": SIZES, "complex": SPATIAL + SIZES}.get(category)
    if words is None:
        return Facts(objects=objects)
    phrasing = "inverse" if rng.random() < INVERSE_SHARE else "direct"
    return Facts(objects=objects, relation=rng.choice(words), phrasing=phrasing)


def _sample_attributes(rng: Random, category: str, count: int) -> Attributes:
    color: str | None = rng.choice(tuple(COLORS))
    texture: str | None = rng.choice(TEXTURES)
    if category in ("shape", "texture") and rng.random() < 0.5:
        color = None
    if category != "texture" and (category != "complex" or (count == 3 and rng.random() < 0.5)):
        texture = None
    return Attributes(shape=rng.choice(SHAPES), color=color, texture=texture)


def _distinct(category: str, objects: tuple[Attributes, ...]) -> bool:
    if category in ("color", "shape"):
        key = "color" if category == "color" else "shape"
        return len({getattr(thing, key) for thing in objects}) == len(objects)
    return all(a.excludes(b) for a, b in combinations(objects, 2))


def write_prompt(facts: Facts, category: str) -> str:
    """The text of a prompt. Shape prompts name no shape by a noun: a red circle is "a red round tile"
    there.
    """
    template = _TEMPLATES[facts.relation, facts.phrasing, len(facts.objects)]
    return template.format(*(_phrase(thing, category) for thing in facts.objects))


def parse_prompt(text: str) -> Facts | None:
    """What a text says if it is worded like a prompt of this world, else None.

    Reads every prompt of `write_prompt` back, and prompts of a single object; case, spaces and a full
    stop do not matter.
    """
    text = " ".join(text.lower().split()).rstrip(".")
    said = [read_attributes(found) for found in _PHRASE.findall(text)]
    form = _FORMS.get(_PHRASE.sub("@", text))
    if form is None or None in said:
        return None
    objects = tuple(thing for thing in said if thing is not None)
    relation, phrasing, _ = form
    if phrasing == "inverse":
        objects = (objects[1], objects[0], *objects[2:])
    return Facts(objects=objects, relation=relation, phrasing=phrasing)


def _phrase(said: Attributes, category: str) -> str:
    noun = f"{SHAPE_ADJECTIVES[said.shape or '']} {NEUTRAL_NOUN}" if category == "shape" else said.shape
    return " ".join(word for word in (said.texture, said.color, noun) if word)


_Form = tuple[str | None, str | None, int]  # relation, phrasing, number of objects


def _templates() -> Iterator[tuple[_Form, str]]:
    yield (None, None, 1), "a {0}"
    yield (None, None, 2), "a {0} and a {1}"
    yield (None, None, 3), "a {0}, a {1} and a {2}"
    inverse = {word: f"a {{1}} with a {{0}} on its {word.split()[2]}" for word in DIRECTIONS}
    inverse |= {word: f"a {{1}} with a {word.split()[0]} {{0}}" for word in SIZES}
    inverse["next to"] = "a {1} with a {0} next to it"
    for word, template in inverse.items():
        yield (word, "direct", 2), f"a {{0}} {word} a {{1}}"
        yield (word, "direct", 3), f"a {{0}} {word} a {{1}} and a {{2}}"
        yield (word, "inverse", 2), template
        yield (word, "inverse", 3), f"{template} and a {{2}}"


_TEMPLATES: dict[_Form, str] = dict(_templates())
_FORMS = {template.format("@", "@", "@"): form for form, template in _TEMPLATES.items()}
_KNOWN = "|".join((*COLORS, *TEXTURES, *SHAPE_ADJECTIVES.values()))
_PHRASE = re.compile(rf"\b(?:(?:{_KNOWN}) )*(?:{'|'.join((*SHAPES, NEUTRAL_NOUN))})\b")


def distinct_prompts(
    rng: Random, category: str, unseen: list[bool], taken: set[str]
) -> list[tuple[str, Facts]]:
    """One prompt per entry of `unseen` (whether it must hold, or must not hold, a held-out pair); none is
    in `taken`.

    Adds their texts to `taken`.

    Raises:
        ValueError: the category has not that many different prompts.
    """
    found: list[tuple[str, Facts]] = []
    for wanted in unseen:
        for _ in range(_ATTEMPTS):
            facts = sample_facts(rng, category)
            text = write_prompt(facts, category)
            if facts.unseen == wanted and text not in taken:
                break
        else:
            raise ValueError(
                f"{category} has too few different prompts: {len(taken)} are drawn and no other is found; "
                "lower benchmarks.train_per_category, dev_per_category or val_per_category"
            )
        taken.add(text)
        found.append((text, facts))
    return found
