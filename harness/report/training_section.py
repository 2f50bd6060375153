"""The section on training in a report."""

from __future__ import annotations

from collections.abc import Mapping

from harness.report.section import Section

_FIGURES = ("rewards", "components", "spread", "curves")
_TEXT = (
    "What training logged, by step, on training prompts. A group is the samples of one prompt; chain and"
    " image are the two stages of a sample. A figure shows the runs that logged its quantities."
)


def training_section(captions: Mapping[str, str]) -> Section:
    """Return the section with the figures about training, of which there may be none.

    Args:
        captions: the captions of the report's figures, by name.
    """
    figures = {name: captions[name] for name in _FIGURES if name in captions}
    return Section(title="Training", text=_TEXT, tables=(), figures=figures)
