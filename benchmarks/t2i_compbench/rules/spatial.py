"""2D-spatial: are the two objects of a prompt there, and how do they stand (2D_spatial_eval.py, spec
sections 5 and 6)?
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.mode import Mode
from benchmarks.t2i_compbench.language.tokens import Token
from benchmarks.t2i_compbench.rules import objects
from benchmarks.t2i_compbench.rules.nouns import bearing
from benchmarks.t2i_compbench.rules.objects import Objects
from benchmarks.t2i_compbench.rules.relations import first_locality, position
from harness.types import Detections

CUT = 0.5  # the official script takes a lower score for 0 (Q4)

Places = tuple[int | None, int | None]
Judge = Callable[[int, int], float]  # how well two detections, named by their places, stand to each other


@dataclass(frozen=True)
class SpatialScore:
    """The score of one image, in [0, 1], and what it is made of.

    `objects` are the two nouns looked for, None where the prompt gave none; `found` are the places in the
    detections of what was judged for them. `before_cut` is the score before the rule of 0.5.
    """

    value: float
    objects: Objects
    locality: str | None
    before_cut: float
    found: Places


def score_2d(
    prompt: str, tokens: Sequence[Token], detections: Detections, *, complex_prompt: bool, mode: Mode
) -> SpatialScore:
    """A quarter for each object's confidence, and half for how they stand.

    Official: the best-scored detection whose label is the noun (Q1, Q9), and no score below 0.5 (Q4).
    Corrected: the best pair of two boxes among all that the alias table takes for the two
    (`nouns.matches`), as it is.

    Raises:
        ValueError: the rule cannot read the prompt: no noun in a simple one (official), or not one
            relation of two objects (corrected).
    """
    boxes = detections.boxes
    if mode == "corrected":
        said = objects.corrected(prompt, tokens, complex_prompt=complex_prompt)
        return best_pair(
            detections,
            said.objects,
            said.locality,
            lambda i, j: position(said.locality, boxes[i], boxes[j], mode=mode, frame=detections.frame),
        )
    locality = first_locality(prompt)
    nouns = (
        objects.around_preposition(tokens) if complex_prompt else objects.first_and_last_noun(prompt, tokens)
    )
    found = _first(nouns[0], detections), _first(nouns[1], detections)
    before_cut = total(detections, found, lambda i, j: position(locality, boxes[i], boxes[j]))
    return SpatialScore(
        value=0.0 if before_cut < CUT else before_cut,
        objects=nouns,
        locality=locality,
        before_cut=before_cut,
        found=found,
    )


def total(detections: Detections, found: Places, judge: Judge) -> float:
    """The score of what was found; the second half is for pairs alone."""
    first, second = found
    sure = sum((0.25 * detections.scores[place] for place in found if place is not None), 0.0)
    return sure if first is None or second is None else sure + 0.5 * judge(first, second)


def best_pair(detections: Detections, nouns: Objects, locality: str | None, judge: Judge) -> SpatialScore:
    """Corrected mode: the highest score of any two detections that may be the two nouns, without a cut
    (Q4, Q9, Q10, Q13).

    One box cannot be both, even where the detector gave it two labels. Where only one of the nouns is
    there, it is the surest detection of it.
    """
    first, second = (_bearing(noun, detections) for noun in nouns)
    best, found = -1.0, _surest(detections, first, second)
    for i in first:
        for j in second:
            bound = 0.25 * (detections.scores[i] + detections.scores[j]) + 0.5
            if bound <= best:
                break  # the rest of `second` is no surer
            if detections.boxes[i] != detections.boxes[j]:
                value = total(detections, (i, j), judge)
                if value > best:
                    best, found = value, (i, j)
    value = best if best >= 0 else total(detections, found, judge)
    return SpatialScore(value=value, objects=nouns, locality=locality, before_cut=value, found=found)


def _first(noun: str | None, detections: Detections) -> int | None:
    """The place of the first detection of this label, which is the best-scored one."""
    return detections.labels.index(noun) if noun in detections.labels else None


def _bearing(noun: str | None, detections: Detections) -> list[int]:
    """The places of all detections that may be `noun`, by falling score."""
    assert noun is not None
    return sorted(bearing(noun, detections.labels), key=lambda place: -detections.scores[place])


def _surest(detections: Detections, first: Sequence[int], second: Sequence[int]) -> Places:
    """One detection alone, for the noun that it is surest of."""
    alone: list[Places] = [*((place, None) for place in first[:1]), *((None, place) for place in second[:1])]
    return max(alone, key=lambda found: total(detections, found, lambda i, j: 0.0), default=(None, None))
