"""Relations of two objects in English prompts, and which objects of a chain play their roles.

The words are those of T2I-CompBench's spatial prompts. A benchmark with other prompts reads its own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from harness.types import Chain, Region

LEFT, RIGHT, TOP, BOTTOM = "on the left of", "on the right of", "on the top of", "on the bottom of"
AXES = {LEFT: (0, -1), RIGHT: (0, 1), TOP: (1, -1), BOTTOM: (1, 1)}
"""Directional word -> the axis (0: x, 1: y) and on which side of the object's center the subject's lies."""

SYMMETRIC = ("next to", "near", "on side of")

_WORDS = sorted((*AXES, *SYMMETRIC), key=len, reverse=True)
_FORMS = [(word, re.compile(rf"(.+?)\s+{re.escape(word)}\s+(.+)", re.IGNORECASE)) for word in _WORDS]
_ARTICLE = re.compile(r"\A(?:a|an|the)\s+", re.IGNORECASE)
_LETTERS = re.compile(r"[a-z]+")
_LITTLE_WORDS = frozenset({"a", "an", "the", "of", "on", "in"})

Roles = tuple[int, int]  # places of subject and object among the objects of a chain
Found = tuple[Region | None, Region | None]  # subject and object in an image; None: it is not there


@dataclass(frozen=True, kw_only=True)
class Relation:
    """What a prompt says of two objects: "`subject` `word` `object`", names without articles."""

    subject: str
    word: str
    object: str

    @property
    def directional(self) -> bool:
        """Whether the word is left, right, top or bottom."""
        return self.word in AXES


def relation_of(text: str) -> Relation | None:
    """Return the relation of a prompt of the form "A WORD B", or None for any other text.

    Longer words are tried first. Of one word the first occurrence counts, whatever its case.
    """
    if (parts := _parts(text)) is None:
        return None
    subject, word, other = parts
    return Relation(subject=without_article(subject), word=word, object=without_article(other))


def phrases_of(text: str) -> tuple[str, str] | None:
    """Return subject and object of such a prompt as it writes them, with their articles."""
    parts = _parts(text)
    return None if parts is None else (parts[0], parts[2])


def _parts(text: str) -> tuple[str, str, str] | None:
    """Return the phrase of the subject, the word and the phrase of the object."""
    for word, form in _FORMS:
        if match := form.fullmatch(text.strip()):
            return match[1], word, match[2]
    return None


def without_article(name: str) -> str:
    """Return the name without one leading a, an or the."""
    return _ARTICLE.sub("", name.strip())


def centers_agree(word: str, subject: Region, other: Region) -> bool:
    """Whether the centers stand in the relation: strictly for a direction, always for other words."""
    if word not in AXES:
        return True
    axis, side = AXES[word]
    return (subject.center[axis] - other.center[axis]) * side > 0


def roles_by_order(chain: Chain) -> Roles | None:
    """Return the first and the second object that have a box, or None where there are fewer."""
    boxed = boxed_places(chain)
    return (boxed[0], boxed[1]) if len(boxed) > 1 else None


def roles_by_name(chain: Chain, names: Sequence[str]) -> Roles | None:
    """Return for each of the two names the boxed object that shares most words with it.

    The first of equals wins. None where a name shares no word, or both names choose one object.
    """
    subject, object_place = (_most_alike(chain, name) for name in names)
    if subject is None or object_place is None or subject == object_place:
        return None
    return subject, object_place


def boxed_places(chain: Chain) -> list[int]:
    """Return the places of the objects that have a box."""
    return [place for place, planned in enumerate(chain.objects) if planned.box is not None]


def _most_alike(chain: Chain, name: str) -> int | None:
    shared = {place: len(_words(chain.objects[place].name) & _words(name)) for place in boxed_places(chain)}
    best = max(shared, key=lambda place: shared[place], default=None)
    return best if best is not None and shared[best] > 0 else None


def _words(name: str) -> set[str]:
    return set(_LETTERS.findall(name.lower())) - _LITTLE_WORDS
