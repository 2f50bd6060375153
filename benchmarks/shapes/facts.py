"""The structured meaning of a prompt, as stored in `Prompt.facts`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.shapes.vocabulary import Attributes


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Two or three objects (one in typed prompts) and perhaps a relation between the first and the second.

    `relation` reads "objects[0] relation objects[1]", whichever the text names first; `phrasing` is
    `direct` if it names objects[0] first, `inverse` if objects[1], None without a relation.
    """

    objects: tuple[Attributes, ...]
    relation: str | None = None
    phrasing: str | None = None

    @property
    def unseen(self) -> bool:
        """Whether an object holds a pair that training never shows."""
        return any(thing.unseen for thing in self.objects)

    def plain(self) -> dict[str, Any]:
        """As plain JSON values, the form that `Prompt.facts` has."""
        relation = None if self.relation is None else {"subject": 0, "word": self.relation, "object": 1}
        return {
            "objects": [_plain(thing) for thing in self.objects],
            "relation": relation,
            "phrasing": self.phrasing,
            "unseen": self.unseen,
        }

    @classmethod
    def read(cls, facts: Mapping[str, Any]) -> Facts | None:
        """From the facts of a prompt; None if they are not of this world (a prompt that was typed,
        another benchmark's).
        """
        if not facts.get("objects") or "phrasing" not in facts:
            return None
        objects = tuple(_read(thing) for thing in facts["objects"])
        relation = facts["relation"]
        return cls(objects=objects, relation=relation and relation["word"], phrasing=facts["phrasing"])


def _plain(thing: Attributes) -> dict[str, str | None]:
    """An object as JSON values. The key of its color is spelled `colour` in every `samples.jsonl` written
    so far.
    """
    return {"shape": thing.shape, "colour": thing.color, "texture": thing.texture}


def _read(thing: Mapping[str, Any]) -> Attributes:
    return Attributes(**{"color" if name == "colour" else name: value for name, value in thing.items()})
