"""The chain that the policy wrote, and the control of all interventions on texts."""

from __future__ import annotations

from harness.interventions.case import Case, Change, Intervention


class Own(Intervention):
    """Takes the ids as they were sampled."""

    name = "own"

    def __call__(self, case: Case) -> Change:
        return Change(chain=case.own)


class Reencoded(Intervention):
    """Encodes the own text again: the baseline of all interventions that edit texts."""

    name = "reencoded"

    def __call__(self, case: Case) -> Change:
        return Change(chain=case.text)
