"""Parts of the own chain: does the model use its boxes, its words, its chain at all?"""

from __future__ import annotations

from itertools import chain

from harness.chain import END, format_chain
from harness.interventions.case import Case, Change, Intervention
from harness.interventions.edits import until_last_box, without_boxes
from harness.relations import boxed_places
from harness.types import PlannedObject

NO_BOX = "the chain has no box"


class NoChain(Intervention):
    """Draws from the prompt alone."""

    name = "no_chain"

    def __call__(self, case: Case) -> Change:
        return Change(chain=END)


class Boxless(Intervention):
    """Leaves out the boxes; the objects keep their tags."""

    name = "boxless"

    def __call__(self, case: Case) -> Change:
        if until_last_box(case.chain) is None:
            return case.unedited(NO_BOX)
        return Change(chain=without_boxes(case.chain) + END)


class Bare(Intervention):
    """Leaves out boxes and tags."""

    name = "bare"

    def __call__(self, case: Case) -> Change:
        return Change(chain=case.chain.bare_text + END)


class BoxesOnly(Intervention):
    """Keeps the objects that have a box, and no other text."""

    name = "boxes_only"

    def __call__(self, case: Case) -> Change:
        boxed = [case.chain.objects[place] for place in boxed_places(case.chain)]
        if not boxed:
            return case.unedited(NO_BOX)
        spaced: list[str | PlannedObject] = list(chain.from_iterable((" ", planned) for planned in boxed))
        return Change(chain=format_chain(*spaced[1:]))


class Cut(Intervention):
    """Leaves out the text after the last box, which describes no layout (ShortCoTI's question)."""

    name = "cut"

    def __call__(self, case: Case) -> Change:
        kept = until_last_box(case.chain)
        return case.unedited(NO_BOX) if kept is None else Change(chain=f"{kept}.{END}")
