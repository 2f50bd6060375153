"""The output of spaCy's model for a list of prompts, written once and read wherever the model is not
installed.

    {"model": "en_core_web_sm", "version": "3.5.0", "spacy": "3.5.3",
     "prompts": {"a red car": {"chunks": ["a red car"],
                               "tokens": [["a", "DET"], ["red", "ADJ"], ["car", "NOUN"]]}}}
"""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.t2i_compbench.language.spacy_model import MODEL, SpacyModel, installed_meta
from benchmarks.t2i_compbench.language.tokens import Token
from harness.files import read_user_text, write_text

AGAIN = "Export again with `python -m harness.fetch noun_phrases` on a machine that has spaCy's model"


def write_export(texts: Iterable[str], file: Path) -> None:
    """Writes the noun chunks and tagged tokens of each distinct text; the file appears when it is complete.

    Raises:
        ValueError: `en_core_web_sm` is not installed; it says how to install it.
    """
    model = SpacyModel()
    prompts = {}
    for text in dict.fromkeys(texts):
        tokens = [(token.text, token.pos) for token in model.tokens(text)]
        prompts[text] = {"chunks": model.chunks(text), "tokens": tokens}
    content = {
        "model": MODEL,
        "version": model.version,
        "spacy": importlib.metadata.version("spacy"),
        "prompts": prompts,
    }
    write_text(file, json.dumps(content, ensure_ascii=False, indent=1))


class Export:
    """The language of an export's prompts. Other texts go to the installed model, if that is the version
    of the export.

    Raises:
        ValueError: the file is no export; when asked, for a text that it does not hold.
    """

    def __init__(self, file: Path) -> None:
        content = _content(file)
        self._file, self._version, self._prompts = file, content["version"], content["prompts"]
        self._model: SpacyModel | None = None
        self.name = f"export of {content['model']} {self._version}"
        self.external = (str(file),)

    def tokens(self, text: str) -> tuple[Token, ...]:
        entry = self._prompts.get(text)
        return (
            self._installed(text).tokens(text)
            if entry is None
            else tuple(Token(word, pos) for word, pos in entry["tokens"])
        )

    def chunks(self, text: str) -> tuple[str, ...]:
        entry = self._prompts.get(text)
        return self._installed(text).chunks(text) if entry is None else tuple(entry["chunks"])

    def _installed(self, text: str) -> SpacyModel:
        if self._model is None and installed_meta() is not None:
            self._model = SpacyModel()
        if self._model is None or self._model.version != self._version:
            raise ValueError(f"{self._file} does not hold the prompt {text!r}. {AGAIN}, or take np=rules")
        return self._model


def _content(file: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(read_user_text(file))
    except (OSError, ValueError) as error:
        raise ValueError(f"{file} cannot be read as an export of noun phrases ({error}). {AGAIN}") from None
    if (
        not isinstance(content, dict)
        or not isinstance(content.get("prompts"), dict)
        or not _is_text(content.get("model"), content.get("version"))
    ):
        raise ValueError(
            f"{file} is no export of noun phrases: it must hold model, version and prompts. {AGAIN}"
        )
    for text, entry in content["prompts"].items():
        if not _is_entry(entry):
            raise ValueError(
                f"{file}: the entry of the prompt {text!r} must hold chunks (texts) and tokens (pairs "
                f"of text and tag). {AGAIN}"
            )
    return content


def _is_entry(entry: Any) -> bool:
    if (
        not isinstance(entry, dict)
        or not isinstance(entry.get("chunks"), list)
        or not isinstance(entry.get("tokens"), list)
    ):
        return False
    pairs = all(isinstance(pair, list) and len(pair) == 2 and _is_text(*pair) for pair in entry["tokens"])
    return pairs and _is_text(*entry["chunks"])


def _is_text(*values: Any) -> bool:
    return all(isinstance(value, str) for value in values)
