"""A prompt as the words that the rules see."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Token:
    """A word or mark; `pos` is its coarse part of speech as spaCy names them (NOUN, PROPN, ADJ, VERB, ADP, DET, ...)."""

    text: str
    pos: str
