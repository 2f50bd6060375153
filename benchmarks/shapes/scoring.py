"""Scores from detections: the official form of T2I-CompBench where a category has one, otherwise
shares of facts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import permutations
from math import prod
from typing import Any

from benchmarks.shapes.facts import Facts
from benchmarks.shapes.relations import holds, pixels
from benchmarks.shapes.vocabulary import Attributes, read_attributes
from harness.types import Detection, Score

_CONSIDERED = 8  # candidates an assignment looks at, the best ones first: keeps noise cheap


@lru_cache(maxsize=1024)
def shown(label: str) -> Attributes | None:
    """What an object called `label` in a plan or by the detector looks like: plain unless it says
    otherwise.
    """
    said = read_attributes(label)
    if said is None or said.texture is not None:
        return said
    return Attributes(shape=said.shape, color=said.color, texture="plain")


def assign(weights: Sequence[Sequence[float]]) -> list[int | None]:
    """One column per row, each column for one row only, with the greatest sum of weights; None where only
    0 is left.

    Among equal assignments the one with the earliest columns.
    """
    useful: set[int] = set()
    for row in weights:
        useful.update(column for column, weight in enumerate(row) if weight > 0)
    ranked = sorted(useful, key=lambda column: -max(row[column] for row in weights))
    columns: list[int | None] = [*ranked[:_CONSIDERED], *[None] * len(weights)]

    def total(chosen: tuple[int | None, ...]) -> float:
        return sum(row[column] for row, column in zip(weights, chosen, strict=True) if column is not None)

    best = max(permutations(columns, len(weights)), key=total, default=())
    return [
        column if column is not None and row[column] > 0 else None
        for row, column in zip(weights, best, strict=True)
    ]


def find(objects: Sequence[Attributes], detections: Sequence[Detection]) -> list[Detection | None]:
    """For each phrase the detection that has all it says: as many phrases as possible, then the highest
    scores.
    """
    looks = [shown(seen.label) for seen in detections]
    weights = []
    for said in objects:
        fits = [look is not None and said.fits(look) for look in looks]
        weights.append([1 + seen.score if fit else 0.0 for seen, fit in zip(detections, fits, strict=True)])
    return [None if column is None else detections[column] for column in assign(weights)]


def relation_strength(facts: Facts, found: Sequence[Detection | None]) -> float:
    """How well the relation holds between the two objects that were found, in [0, 1]; 0 if one was not."""
    if facts.relation is None or found[0] is None or found[1] is None:
        return 0.0
    first, second = found[0], found[1]
    return holds(facts.relation, pixels(first.box), pixels(second.box))


def attribute_score(facts: Facts, found: Sequence[Detection | None]) -> float:
    """T2I-CompBench's form for color, shape and texture: the product over phrases of the probability that
    each is true.
    """
    return prod(0.0 if seen is None else seen.score for seen in found)


def relation_score(facts: Facts, found: Sequence[Detection | None]) -> float:
    """T2I-CompBench's 2D-spatial rule (2D_spatial_eval.py): a quarter per object's score, half for the
    relation, and the cut.

    The official cut is s < 0.5. There it makes a wrong relation 0, as no official detector is ever
    certain; ours is, so here the cut includes 0.5 itself.
    """
    confidence = sum(0.25 * seen.score for seen in found[:2] if seen is not None)
    score = confidence + 0.5 * relation_strength(facts, found)
    return score if score > 0.5 else 0.0


def fact_share(facts: Facts, found: Sequence[Detection | None]) -> float:
    """The similarity of this world: the share of what is said, objects and relation, that is shown."""
    parts = [0.0 if seen is None else seen.score for seen in found]
    if facts.relation is not None:
        parts.append(relation_strength(facts, found))
    return sum(parts) / len(parts)


def complex_score(facts: Facts, found: Sequence[Detection | None]) -> float:
    """The mean of the attribute score and the relation score (the miniature's 3-in-1)."""
    return (attribute_score(facts, found) + relation_score(facts, found)) / 2


_RULES: dict[str, Callable[[Facts, Sequence[Detection | None]], float]] = {
    "color": attribute_score,
    "shape": attribute_score,
    "texture": attribute_score,
    "2D-spatial": relation_score,
    "non-spatial": fact_share,
    "complex": complex_score,
}


def score_detections(category: str, facts: Facts, detections: Sequence[Detection]) -> Score:
    """The score of an image by the rule of the prompt's category, with what it rests on."""
    found = find(facts.objects, detections)
    value = _RULES[category](facts, found)
    return Score(value=round(value, 6), evidence=_evidence(facts, detections, found))


def _evidence(
    facts: Facts, detections: Sequence[Detection], found: Sequence[Detection | None]
) -> dict[str, Any]:
    """Plain JSON: every detection, and per phrase and for the relation what counted."""
    evidence: dict[str, Any] = {
        "detections": [
            {"label": seen.label, "box": _numbers(seen), "score": seen.score} for seen in detections
        ],
        "objects": [
            {"phrase": said.name, "found": seen and seen.label, "score": 0.0 if seen is None else seen.score}
            for said, seen in zip(facts.objects, found, strict=True)
        ],
    }
    if facts.relation is not None:
        evidence["relation"] = {"word": facts.relation, "score": round(relation_strength(facts, found), 6)}
    return evidence


def _numbers(seen: Detection) -> list[int]:
    return [seen.box.x1, seen.box.y1, seen.box.x2, seen.box.y2]
