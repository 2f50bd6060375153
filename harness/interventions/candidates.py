"""Chains chosen among several that the policy wrote for one prompt."""

from __future__ import annotations

from harness.interventions.case import Case, Change, Intervention
from harness.settings import whole_number


class Fresh(Intervention):
    """Takes another chain of the prompt: the difference that another chain alone makes."""

    name = "fresh"
    baseline = "own"
    candidates = 2

    def __call__(self, case: Case) -> Change:
        return Change(chain=case.chains[1], details={"candidate": 1})


class Verify(Intervention):
    """Takes the first right chain among several candidates, or the own chain where none is right.

    "The Plan, Not the Decoder" (arXiv 2608.21713) has 5 candidates; what it keeps if all fail is not
    published.

    Args:
        candidates: how many chains, the own one included.

    Raises:
        ValueError: that is no whole number from 1.
    """

    name = "verify"
    baseline = "own"
    reads = ("relation", "colors")

    def __init__(self, *, candidates: int) -> None:
        self.candidates = whole_number("intervention.candidates", candidates)

    def __call__(self, case: Case) -> Change:
        if case.reading.right(case.chain) is None:
            return case.unchanged("the prompt says nothing that can be checked")
        for number, candidate in enumerate(case.chains[: self.candidates]):
            if case.reading.right(candidate.chain):
                return Change(chain=candidate, details={"candidate": number})
        return Change(chain=case.own, details={"candidate": 0})
