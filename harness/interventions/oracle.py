"""A clean chain in place of the model's."""

from __future__ import annotations

from harness.interventions.case import Case, Change
from harness.interventions.constructed import Constructed, construct


class Oracle(Constructed):
    """Writes a chain from the prompt, with fixed clean boxes."""

    kind = "oracle"

    def __call__(self, case: Case) -> Change:
        return construct(case, self._style, self._text, None)
