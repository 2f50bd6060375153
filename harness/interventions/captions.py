"""Another caption: the chain without its prompt, and the chain's words as the prompt (arXiv 2602.08336)."""

from __future__ import annotations

from harness.chain import END
from harness.interventions.case import Case, Change, Intervention


class Uncaptioned(Intervention):
    """Draws from the own ids alone: the caption is empty."""

    name = "uncaptioned"
    baseline = "own"

    def __call__(self, case: Case) -> Change:
        return Change(chain=case.own, caption="")


class Reprompted(Intervention):
    """Draws without a chain; the words of the own chain are the caption."""

    name = "reprompted"

    def __call__(self, case: Case) -> Change:
        return Change(chain=END, caption=case.chain.bare_text)
