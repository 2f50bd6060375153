"""The boxes of subject and object exchanged: always, or where that repairs the chain."""

from __future__ import annotations

from harness.chain import parse
from harness.interventions.case import NO_RELATION, UNCLEAR_BOXES, Case, Change, Intervention
from harness.interventions.edits import numbers, with_boxes


class Swap(Intervention):
    """Exchanges the boxes of subject and object."""

    name = "swap"
    reads = ("relation",)

    def __call__(self, case: Case) -> Change:
        return exchange(case)


class Minimal(Intervention):
    """Exchanges the boxes of subject and object where this makes a wrong chain right."""

    name = "minimal"
    reads = ("relation",)

    def __call__(self, case: Case) -> Change:
        if case.reading.relation is None:
            return case.unedited(NO_RELATION)
        if case.reading.right(case.chain):
            return case.unedited("the chain is right")
        change = exchange(case)
        if change.applied and not case.reading.right(parse(str(change.chain))):
            return case.unedited("exchanging the boxes does not make the chain right")
        return change


def exchange(case: Case) -> Change:
    """Return the own text with the boxes of subject and object exchanged, if it has both."""
    roles, boxes = case.reading.roles(case.chain), case.reading.boxes(case.chain)
    if roles is None or boxes is None:
        return case.unedited(case.no_box())
    text = with_boxes(case.chain, {roles[0]: boxes[1], roles[1]: boxes[0]})
    if text is None:
        return case.unedited(UNCLEAR_BOXES)
    before = [numbers(box) for box in boxes]
    return Change(chain=text, details={"boxes_before": before, "boxes_after": before[::-1]})
