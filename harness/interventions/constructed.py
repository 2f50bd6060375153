"""Chains written from the prompt alone: their text, in the styles terse and verbose or by an own template."""

from __future__ import annotations

import re
from typing import ClassVar

from harness.chain import format_chain
from harness.interventions.case import Case, Change, Intervention
from harness.interventions.edits import numbers
from harness.interventions.reading import TAGS, Reading
from harness.relations import BOTTOM, LEFT, RIGHT, TOP, Relation
from harness.settings import choice
from harness.types import Box, PlannedObject

STYLES = ("terse", "verbose")
NOTHING_SAID = "the prompt says neither a relation nor two colors"
TOGETHER = "and"  # in place of a relation's word where a prompt asks for two colored objects
PHRASES = {  # word -> how it is said of the subject, and how of the object
    LEFT: ("is positioned to the left of", "to the right of"),
    RIGHT: ("is positioned to the right of", "to the left of"),
    TOP: ("is positioned above", "below"),
    BOTTOM: ("is positioned below", "above"),
    "next to": ("stands next to", "next to"),
    "near": ("is placed near", "near"),
    "on side of": ("is on the side of", "beside"),
    TOGETHER: ("and", "beside"),
}
TERSE = "A {subject} {relation} a {object}."
MORE = (
    " The whole {subject} can be seen, in its usual form and with clear details."
    " The {object} is {mirrored} the {subject} and just as easy to recognize."
    " Neither of them hides the other. The background is plain, and the light is even."
)
_SLOT = re.compile(r"\{(subject|object|relation)\}")


class Constructed(Intervention):
    """The base class of interventions that write a chain from the prompt.

    Args:
        style: terse, or verbose with further sentences.
        text: an own template with {subject}, {object} and {relation}; None for that of the style.

    Raises:
        ValueError: a setting is none of those allowed.
    """

    kind: ClassVar[str]
    """Names it, with its style."""

    reads = ("relation", "colors")

    def __init__(self, *, style: str, text: str | None) -> None:
        _check_style(style, text)
        self.name = f"{self.kind}_{style}"
        self._style, self._text = style, text


def _check_style(style: str, text: str | None) -> None:
    """Check the settings of a constructed chain.

    Raises:
        ValueError: the style is unknown, or the own template lacks or repeats a slot or holds a tag.
    """
    choice("intervention.style", style, STYLES)
    if text is None:
        return
    slots = sorted(_SLOT.findall(text)) if isinstance(text, str) else []
    if slots != ["object", "relation", "subject"] or any(tag in text for tag in TAGS):
        raise ValueError(
            f"intervention.text={text!r}: it must hold {{subject}}, {{object}} and {{relation}} once each,"
            " and no tag of the chain grammar; or take null for the text of intervention.style"
        )


def said(reading: Reading) -> Relation | None:
    """Return what a constructed chain says: the prompt's relation, or its two colored objects together."""
    if reading.relation is not None or len(reading.colors) != 2:
        return reading.relation
    subject, other = (f"{color} {name}" for color, name in reading.colors)
    return Relation(subject=subject, word=TOGETHER, object=other)


def construct(case: Case, style: str, text: str | None, boxes: tuple[Box, Box] | None) -> Change:
    """Return the constructed chain of a case's prompt.

    Args:
        case: whose prompt is written; a benchmark may write it itself.
        style: terse or verbose.
        text: an own template; None for that of the style.
        boxes: of subject and object; None for the clean ones.
    """
    relation = said(case.reading)
    if relation is None:
        return case.unedited(NOTHING_SAID)
    details = {"boxes_after": [numbers(box) for box in boxes]} if boxes else {}
    if text is None and case.reading.writes_chains:
        chain = case.reading.oracle_chain(style, boxes, case.rng)
        if chain is None:
            return case.unedited("the benchmark writes no chain for this prompt")
        return Change(chain=chain, details=details)
    if relation.word not in PHRASES:
        return case.unedited(f"there is no text for the relation {relation.word!r}")
    subject, other = boxes or map(case.reading.place, clean_boxes(relation.word))
    return Change(chain=_written(relation, subject, other, style, text), details=details)


def clean_boxes(word: str) -> tuple[Box, Box]:
    """Return the fixed boxes of subject and object: one above the other for top and bottom, else beside."""
    first, second = Box(50, 250, 400, 750), Box(600, 250, 950, 750)
    if word in (TOP, BOTTOM):
        first, second = Box(250, 30, 750, 450), Box(250, 550, 750, 970)
    return (second, first) if word in (RIGHT, BOTTOM) else (first, second)


def _written(relation: Relation, subject: Box, other: Box, style: str, text: str | None) -> str:
    phrase, mirrored = PHRASES[relation.word]
    slots: dict[str, str | PlannedObject] = {
        "subject": PlannedObject(name=relation.subject, box=subject),
        "object": PlannedObject(name=relation.object, box=other),
        "relation": phrase,
    }
    pieces: list[str | PlannedObject] = list(_SLOT.split(TERSE if text is None else text))
    pieces[1::2] = [slots[str(name)] for name in pieces[1::2]]
    if text is None and style == "verbose":
        pieces.append(MORE.format(subject=relation.subject, object=relation.object, mirrored=mirrored))
    return format_chain(*pieces)
