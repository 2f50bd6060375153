"""The chain of another prompt: which of the two is drawn, chain or caption?"""

from __future__ import annotations

from harness.interventions.case import Case, Change, Intervention


class Other(Intervention):
    """Takes the own ids of another prompt of the category, whose text differs."""

    name = "other"
    baseline = "own"

    def __call__(self, case: Case) -> Change:
        for other in case.pool.others(case.prompt):
            if other.chain.chain.text != case.chain.text:
                return Change(chain=other.chain, details={"chain_of": other.prompt.id})
        return case.unchanged("no other prompt of the category has another chain")
