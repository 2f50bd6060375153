"""A real chain of another prompt with the names of this prompt's objects."""

from __future__ import annotations

import re
from collections.abc import Sequence

from harness.chain import END, OBJ_END, OBJ_START
from harness.interventions.case import NO_RELATION, Case, Change, Intervention
from harness.interventions.edits import body_of
from harness.relations import boxed_places, without_article
from harness.types import Chain


class Donor(Intervention):
    """Takes a chain whose first two boxes satisfy the relation, and renames these two objects."""

    name = "donor"
    reads = ("relation",)

    def __call__(self, case: Case) -> Change:
        relation = case.reading.relation
        if relation is None:
            return case.unedited(NO_RELATION)
        donors = [own for own in case.pool.donors(case.prompt) if self._fits(case, own.chain.chain)]
        if not donors:
            return case.unedited("no chain of another prompt satisfies the relation")
        donor = case.rng.choice(donors)
        text = renamed(donor.chain.chain, (relation.subject, relation.object))
        return Change(chain=text, details={"donor": donor.prompt.id, "donor_number": donor.prompt.number})

    @staticmethod
    def _fits(case: Case, chain: Chain) -> bool:
        first, second = (chain.objects[place].box for place in boxed_places(chain)[:2])
        assert first is not None and second is not None
        return case.reading.holds(first, second)


def renamed(chain: Chain, names: Sequence[str]) -> str:
    """Return a chain's text with other names for its first objects that have a box, up to begin-of-image.

    First the tagged names change, each where it stands first; then the words of the old names everywhere, one
    name after the other, as in the official program: a new name that equals the next old one changes too.
    """
    text = body_of(chain)
    old = [chain.objects[place].name for place in boxed_places(chain)[: len(names)]]
    for before, after in zip(old, names, strict=True):
        tagged = re.escape(OBJ_START) + rf"\s*{re.escape(before)}\s*" + re.escape(OBJ_END)
        text = re.sub(tagged, _literally(f"{OBJ_START}{after}{OBJ_END}"), text, count=1)
    for before, after in zip(old, names, strict=True):
        word = without_article(re.sub(r"^\W+|\W+$", "", before))
        if word and word.lower() != after.lower():
            text = re.sub(rf"\b{re.escape(word)}\b", _literally(after), text)
    return text + END


def _literally(text: str) -> str:
    """The text as a replacement of a pattern, where backslashes would have a meaning."""
    return text.replace("\\", r"\\")
