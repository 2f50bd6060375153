"""What an object of the shapes world can be, and the words for it."""

from __future__ import annotations

import re
from dataclasses import dataclass

SHAPES = ("circle", "square", "triangle", "diamond")
TEXTURES = ("plain", "striped", "dotted")
COLORS = {  # RGB, chosen so that their blends with white and DARK stay nearer to them than to each other
    "red": (230, 40, 40),
    "green": (60, 190, 60),
    "blue": (40, 90, 240),
    "yellow": (250, 215, 20),
    "purple": (150, 40, 180),
    "cyan": (20, 200, 230),
}
WHITE = (255, 255, 255)  # the background
DARK = (25, 25, 25)  # the second tone of striped and dotted objects

SHAPE_ADJECTIVES = {
    "circle": "round",
    "square": "square",
    "triangle": "triangular",
    "diamond": "diamond-shaped",
}
NEUTRAL_NOUN = "tile"  # "a round tile": the noun of shape prompts, which says nothing about the shape

UNSEEN_COLORS = frozenset(
    {("green", "circle"), ("yellow", "square"), ("purple", "triangle"), ("cyan", "diamond")}
)
UNSEEN_TEXTURES = frozenset({("striped", "diamond"), ("dotted", "triangle")})
"""Attribute-object pairs that no train or dev prompt holds, only val prompts, as in T2I-CompBench's
unseen sets.

GRPO never asks for them; the GoT records show them like any other pair, as pre-training data does.
"""

_WORD = re.compile(r"[a-z]+(?:-[a-z]+)*")
_MEANINGS = (
    {word: ("shape", word) for word in SHAPES}
    | {adjective: ("shape", shape) for shape, adjective in SHAPE_ADJECTIVES.items()}
    | {"rhombus": ("shape", "diamond")}
    | {word: ("color", word) for word in COLORS}
    | {word: ("texture", word) for word in TEXTURES}
)


@dataclass(frozen=True, kw_only=True)
class Attributes:
    """What is said about one object; None where nothing is said."""

    shape: str | None = None
    color: str | None = None
    texture: str | None = None

    @property
    def unseen(self) -> bool:
        """Whether a held-out pair is among what is said."""
        return (self.color, self.shape) in UNSEEN_COLORS or (self.texture, self.shape) in UNSEEN_TEXTURES

    def stated(self) -> tuple[tuple[str, str], ...]:
        """The (attribute, value) pairs that are said."""
        said = (("shape", self.shape), ("color", self.color), ("texture", self.texture))
        return tuple((key, value) for key, value in said if value is not None)

    def share(self, shown: Attributes) -> float:
        """How much of what is said here `shown` has, in [0, 1]; 1 if nothing is said."""
        stated = self.stated()
        return sum(getattr(shown, key) == value for key, value in stated) / len(stated) if stated else 1.0

    def fits(self, shown: Attributes) -> bool:
        """Whether `shown` has everything that is said here."""
        return all(getattr(shown, key) == value for key, value in self.stated())

    def excludes(self, other: Attributes) -> bool:
        """Whether no one object can be both."""
        theirs = dict(other.stated())
        return any(theirs.get(key, value) != value for key, value in self.stated())

    @property
    def name(self) -> str:
        """Color, texture unless plain, shape: how chains and detections spell an object, e.g. `red
        striped circle`.
        """
        texture = None if self.texture == "plain" else self.texture
        return " ".join(word for word in (self.color, texture, self.shape) if word)


def words(text: str) -> list[str]:
    """The lower-case words of a text."""
    return _WORD.findall(text.lower())


def read_attributes(text: str) -> Attributes | None:
    """What a name says, by its words and leniently; None if it says nothing known or contradicts itself.

    A square tile is a `square`, a `red circle` says nothing about texture, a `red blue circle` is nothing.
    """
    found: dict[str, str] = {}
    for word in words(text):
        key, value = _MEANINGS.get(word, (None, None))
        if key is None or value is None:
            continue
        if found.setdefault(key, value) != value:
            return None
    return Attributes(**found) if found else None
