"""The oracle's rubrics: the three graded questions of the paper (section 2 of the rubric table) in the
shapes world.

Every function returns a grade from 0 to 10 and one sentence of reasoning. Credit is partial, and
correcting a chain or an image never lowers it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import combinations

from benchmarks.shapes.facts import Facts
from benchmarks.shapes.relations import DIRECTIONS, OPPOSITE, SIZES, Corners, area, holds, iou, offset, pixels
from benchmarks.shapes.scoring import assign, relation_strength, shown
from benchmarks.shapes.vocabulary import NEUTRAL_NOUN, Attributes, read_attributes, words
from harness.types import Box, Chain, Detection

MIN_SIDE = 2  # pixels; a planned box with a shorter side is degenerate
EXTRA_COST = 1  # grades per object that nobody asked for
MAX_EXTRA_COST = 2
MAX_WORDS_COST = 3  # grades, one per word that is no English of this world

_RELATION_WORDS = {
    "on the left of": r"left of",
    "on the right of": r"right of",
    "on the top of": r"top of|above|over",
    "on the bottom of": r"bottom of|below|under",
    "next to": r"next to|beside|near",
    "bigger than": r"(?:bigger|larger) than",
    "smaller than": r"smaller than",
}
_STATED = {word: re.compile(rf"\b(?:{pattern})\b") for word, pattern in _RELATION_WORDS.items()}
_WITH_SIZE = re.compile(r"\bwith an? (bigger|smaller)\b")
_ON_ITS = re.compile(r"^\s*on its (left|right|top|bottom)\b|^\s*(next) to it\b")
_GLUE = frozenset(
    "a an and the is are there of to on in at its it with next left right top bottom above below over "
    "under beside near "
    f"bigger larger smaller than big small {NEUTRAL_NOUN}".split()
)


def grade_semantic(facts: Facts, chain: Chain) -> tuple[int, str]:
    """Whether the chain's words say all the prompt says and nothing against it; boxes do not matter."""
    names = [thing.name for thing in chain.objects]
    looks = [shown(name) for name in names]
    if not any(looks):
        return 0, "The description names no object."
    credits, chosen = _match(facts.objects, looks, [1.0] * len(looks))
    value = 10 * sum(credits) / len(credits)
    notes = _missing(facts.objects, credits)
    if facts.relation is not None:
        said = _stated_relation(chain.bare_text, names, chosen[0], chosen[1])
        value *= 1.0 if said == facts.relation else 0.6 if said is None else 0.3
        if said != facts.relation:
            notes.append(f"'{facts.relation}' is {'not stated' if said is None else 'contradicted'}")
    strange = sum(_strange(word) for word in chain.bare_text.split())
    cost = min(strange, MAX_WORDS_COST) + _extra_cost(len(names), chosen) + (1 if chain.faults else 0)
    return max(1, _rounded(value - cost)), _sentence(notes, "The description says what the prompt asks for.")


def grade_spatial(facts: Facts, chain: Chain) -> tuple[int, str]:
    """Whether the planned boxes hold the named objects and stand as the relation wants: 8-10, 5-7 partly,
    1-4 not.
    """
    boxes = [usable(thing.box) for thing in chain.objects]
    if not any(boxes):
        return 0, "The layout is blank."
    looks = [shown(thing.name) for thing in chain.objects]
    credits, chosen = _match(facts.objects, looks, [float(box is not None) for box in boxes])
    placed = [None if index is None else boxes[index] for index in chosen]
    layout = _layout_grade(
        facts.relation, [box for box in placed if box is not None], complete=None not in placed[:2]
    )
    value = layout * sum(credits) / len(credits)
    notes = _missing(facts.objects, credits)
    if layout < 8:
        notes.append(
            f"'{facts.relation}' does not clearly hold" if facts.relation else "the boxes lie on each other"
        )
    return max(1, _rounded(value)), _sentence(notes, "Objects and positions match the prompt.")


def grade_picture(facts: Facts, detections: Sequence[Detection]) -> tuple[int, str]:
    """Grade of an image: its objects with their attributes, and strictly the relation. A wrong relation
    gives at most 4.
    """
    looks = [shown(seen.label) for seen in detections]
    credits, chosen = _match(facts.objects, looks, [seen.score for seen in detections])
    value = 10 * sum(credits) / len(credits)
    notes = _missing(facts.objects, credits)
    if facts.relation is not None:
        strength = relation_strength(
            facts, [None if index is None else detections[index] for index in chosen]
        )
        value *= 0.4 + 0.6 * strength
        if strength < 1:
            notes.append(f"'{facts.relation}' does not hold")
    cost = _extra_cost(len(detections), chosen)
    return max(0, _rounded(value - cost)), _sentence(notes, "The picture shows all that the caption says.")


def _match(
    required: Sequence[Attributes], looks: Sequence[Attributes | None], trust: Sequence[float]
) -> tuple[list[float], list[int | None]]:
    """Credit in [0, 1] of each required object and which candidate it was given for; `trust` weighs the
    candidates.

    A candidate with a part of the attributes earns half that share, so that a wrong binding is worth little.
    """
    weights = []
    for said in required:
        row = [0.0 if look is None else _credit(said.share(look)) for look in looks]
        weights.append([weight * credit for weight, credit in zip(trust, row, strict=True)])
    chosen = assign(weights)
    return [0.0 if index is None else row[index] for row, index in zip(weights, chosen, strict=True)], chosen


def _credit(share: float) -> float:
    return 1.0 if share == 1 else share / 2


def _layout_grade(relation: str | None, boxes: Sequence[Corners], *, complete: bool) -> float:
    """How well boxes stand, 1..10; subject and object come first where `complete`."""
    overlap = max((iou(a, b) for a, b in combinations(boxes, 2)), default=0.0)
    apart = 10.0 if overlap < 0.1 else 7.0 if overlap < 0.3 else 4.0
    if relation is None:
        return apart
    if not complete:
        return 4.0
    return min(_relation_grade(relation, boxes[0], boxes[1]), max(apart, 5.0))


def _relation_grade(word: str, a: Corners, b: Corners) -> float:
    strength = holds(word, a, b)
    if word in SIZES:
        ratio = area(a) / area(b) if word == "bigger than" else area(b) / area(a)
        return 10.0 if strength == 1 else 6.0 if ratio > 1.1 else 4.0 if ratio > 0.9 else 2.0
    if word not in DIRECTIONS:
        return 10.0 if strength == 1 else 5 + 2 * strength
    dx, dy = offset(a, b)
    along, across = (abs(dx), abs(dy)) if word in DIRECTIONS[:2] else (abs(dy), abs(dx))
    if strength == 1:
        return 10.0 if across <= along / 2 else 9.0 if across <= 0.8 * along else 8.0
    if strength > 0:
        return 5 + 2 * strength
    towards = {"on the left of": dx, "on the right of": -dx, "on the top of": dy, "on the bottom of": -dy}[
        word
    ]
    return 5.0 if towards > 0 else 3.0 if towards == 0 else 2.0


def usable(box: Box | None) -> Corners | None:
    """Return the corners of a planned box in pixels; None without a box that can be drawn."""
    if box is None:
        return None
    corners = pixels(box)
    return corners if min(corners[2] - corners[0], corners[3] - corners[1]) >= MIN_SIDE else None


def _stated_relation(text: str, names: Sequence[str], first: int | None, second: int | None) -> str | None:
    """The relation of object `first` to object `second` that a text states, in either order; None if it
    states none or several.
    """
    if first is None or second is None:
        return None
    spans, cursor = [], 0
    for name in names:
        start = text.find(name, cursor)
        if start < 0:
            return None
        cursor = start + len(name)
        spans.append((start, cursor))
    earlier, later = sorted((spans[first], spans[second]))
    word = _read_relation(text[earlier[1] : later[0]].lower(), text[later[1] :].lower())
    return OPPOSITE.get(word, word) if word is not None and spans[second] < spans[first] else word


def _read_relation(between: str, after: str) -> str | None:
    """The relation of the earlier object to the later one, e.g. from " with a " and " on its left"."""
    stated = {word for word, pattern in _STATED.items() if pattern.search(between)}
    if with_size := _WITH_SIZE.search(between):
        stated.add(OPPOSITE[f"{with_size[1]} than"])
    if (on_its := _ON_ITS.search(after)) and " with " in between:
        stated.add("next to" if on_its[2] else OPPOSITE[f"on the {on_its[1]} of"])
    return stated.pop() if len(stated) == 1 else None


def _strange(text: str) -> bool:
    """Whether one space-separated piece of text is no word of this world."""
    return (
        any(word not in _GLUE and read_attributes(word) is None for word in words(text))
        or not text.strip(".,").isascii()
    )


def _extra_cost(count: int, chosen: Sequence[int | None]) -> int:
    unasked = count - sum(index is not None for index in chosen)
    return min(unasked * EXTRA_COST, MAX_EXTRA_COST)


def _missing(required: Sequence[Attributes], credits: Sequence[float]) -> list[str]:
    return [
        f"{said.name} is missing or wrong"
        for said, credit in zip(required, credits, strict=True)
        if credit <= 0.5
    ]


def _sentence(notes: Sequence[str], praise: str) -> str:
    return "; ".join(notes).capitalize() + "." if notes else praise


def _rounded(value: float) -> int:
    return int(value + 0.5) if value > 0 else 0
