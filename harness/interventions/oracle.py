"""A clean chain in place of the model's."""

from __future__ import annotations

from harness.interventions.case import Case, Change, Intervention
from harness.interventions.constructed import check_style, construct


class Oracle(Intervention):
    """Writes a chain from the prompt, with fixed clean boxes.

    Args:
        style: terse, or verbose with further sentences.
        text: an own template with {subject}, {object} and {relation}; None for that of the style.

    Raises:
        ValueError: a setting is none of those allowed.
    """

    reads = ("relation", "colors")

    def __init__(self, *, style: str, text: str | None) -> None:
        check_style(style, text)
        self.name = f"oracle_{style}"
        self._style, self._text = style, text

    def __call__(self, case: Case) -> Change:
        return construct(case, self._style, self._text, None)
