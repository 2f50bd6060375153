"""Parses prompts with spaCy's `en_core_web_sm`, as the official scripts do (spaCy 3.5.3, model 3.5.0)."""

from __future__ import annotations

import importlib
import importlib.util
import json
from pathlib import Path
from typing import Any

from benchmarks.t2i_compbench.language.tokens import Token

MODEL = "en_core_web_sm"
OFFICIAL = "3.5.0"
WHEEL = f"{MODEL}-{OFFICIAL}-py3-none-any.whl"
INSTALL = (
    "pip install --no-deps "
    f"https://github.com/explosion/spacy-models/releases/download/{MODEL}-{OFFICIAL}/{WHEEL}"
    "#sha256=0964370218b7e1672a30ac50d72cdc6b16f7c867496f1d60925691188f4d2510"
)


class SpacyModel:
    """Tokens, coarse parts of speech and `noun_chunks` of the installed model, which is loaded when first
    asked; each text is read once.

    Raises:
        ValueError: the model is not installed.
    """

    def __init__(self) -> None:
        meta = installed_meta()
        if meta is None:
            raise ValueError(f"spaCy's model {MODEL} is not installed here. Install it: {INSTALL}")
        self.version: str = json.loads(meta.read_text(encoding="utf-8"))["version"]
        self.name = f"{MODEL} {self.version}"
        self.external = (str(meta),)
        self._pipeline: Any = None
        self._read: dict[str, tuple[tuple[Token, ...], tuple[str, ...]]] = {}

    def tokens(self, text: str) -> tuple[Token, ...]:
        return self._parsed(text)[0]

    def chunks(self, text: str) -> tuple[str, ...]:
        return self._parsed(text)[1]

    def _parsed(self, text: str) -> tuple[tuple[Token, ...], tuple[str, ...]]:
        if text not in self._read:
            if self._pipeline is None:
                self._pipeline = importlib.import_module(MODEL).load()
            doc = self._pipeline(text)
            tokens = tuple(Token(token.text, token.pos_) for token in doc)
            self._read[text] = tokens, tuple(chunk.text for chunk in doc.noun_chunks)
        return self._read[text]


def installed_meta() -> Path | None:
    """The model's own `meta.json`, which says its version, or None where the model is not installed;
    nothing is imported.
    """
    found = importlib.util.find_spec(MODEL)
    if found is None or not found.origin:
        return None
    meta = Path(found.origin).parent / "meta.json"
    return meta if meta.is_file() else None
