"""Chooses how prompts are parsed (`np`): by an installed spaCy model, by an export of its output, or
by rules.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from benchmarks.t2i_compbench.language.export import Export
from benchmarks.t2i_compbench.language.rules import Rules
from benchmarks.t2i_compbench.language.spacy_model import SpacyModel, installed_meta
from benchmarks.t2i_compbench.language.tokens import Token


class Language(Protocol):
    """Parses prompts: their words with parts of speech, and their noun phrases.

    Attributes:
        name: what tables say after `np=`.
        external: the files whose content decides the answers.
    """

    @property
    def name(self) -> str: ...
    @property
    def external(self) -> tuple[str, ...]: ...

    def tokens(self, text: str) -> tuple[Token, ...]:
        """The words and marks of a text in order."""
        ...

    def chunks(self, text: str) -> tuple[str, ...]:
        """Its noun phrases in order, as they stand in the text, with their articles."""
        ...


def choose_language(np: str, export: str | None) -> Language:
    """The reading that a setting names; spaCy is not imported before it is asked.

    Args:
        np: `spacy`, `rules`, the file of an export, or `auto`: the export if it is there, else the model
            if it is installed, else rules.
        export: where `auto` looks for an export.

    Raises:
        ValueError: the setting names nothing, or what it names is not here or is damaged.
    """
    if np == "rules":
        return Rules()
    if np == "spacy":
        return SpacyModel()
    if np == "auto":
        if export is not None and Path(export).is_file():
            return Export(Path(export))
        return SpacyModel() if installed_meta() is not None else Rules()
    if Path(np).is_file():
        return Export(Path(np))
    raise ValueError(
        f"benchmarks.scoring.np={np}: give auto, spacy, rules, or the file of an export, which "
        "harness.fetch noun_phrases writes"
    )
