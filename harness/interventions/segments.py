"""The objects of a chain in another order: each keeps its name and box, the text between them stays."""

from __future__ import annotations

from harness.interventions.case import UNCLEAR_BOXES, Case, Change, Intervention
from harness.interventions.edits import segments, with_segments

TOO_FEW = "the chain has fewer than two different objects with a box"


class Reorder(Intervention):
    """Reverses the order of the objects."""

    name = "reorder"

    def __call__(self, case: Case) -> Change:
        found = segments(case.chain)
        if len(set(found)) < 2:
            return case.unedited(TOO_FEW)
        return _ordered(case, found[::-1])


class Shuffled(Intervention):
    """Draws an order of the objects that differs from the chain's."""

    name = "shuffled"

    def __call__(self, case: Case) -> Change:
        found = segments(case.chain)
        if len(set(found)) < 2:
            return case.unedited(TOO_FEW)
        ordered = list(found)
        while ordered == found:
            case.rng.shuffle(ordered)
        return _ordered(case, ordered)


def _ordered(case: Case, found: list[str]) -> Change:
    text = with_segments(case.chain, found)
    return case.unedited(UNCLEAR_BOXES) if text is None else Change(chain=text)
