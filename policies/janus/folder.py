"""What lies in a checkpoint folder, read without torch: its layout, its weight files, what belongs beside them.

Two layouts are known: `multi_modality`, as Janus-Pro and GoT-R1 are published, and `janus`, as
transformers writes it. Weights are one file or shards with an index; safetensors go before `.bin`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CONFIG, TOKENIZER = "config.json", "tokenizer.json"
TOKENIZER_FILES = (
    "tokenizer_config.json",
    "special_tokens_map.json",
)  # beside tokenizer.json, in both layouts
PROCESSOR_FILES = (
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "chat_template.jinja",
)
OTHER_TOKENIZERS = ("tokenizer.model", "vocab.json", "merges.txt", "tokenizer_config.json")
WEIGHTS = {
    "model.safetensors": r"model-[^/]*\.safetensors",
    "pytorch_model.bin": r"pytorch_model-[^/]*\.bin",
}  # whole: shards
LAYOUTS = ("multi_modality", "janus")  # model_type in config.json
LFS = b"version https://git-lfs"
REMEDY = "give the whole folder of a Janus-Pro or GoT-R1 model; a damaged one must be made or fetched again"


@dataclass(frozen=True, kw_only=True)
class CheckpointFolder:
    """A folder that has all the files it needs; `index` says what is where if the weights are in shards."""

    path: Path
    config: dict[str, Any]
    weights: tuple[Path, ...]
    index: Path | None = None

    @property
    def original(self) -> bool:
        """Whether it is in the layout Janus was published in, not in transformers'."""
        return self.config["model_type"] == LAYOUTS[0]

    @property
    def beside(self) -> tuple[Path, ...]:
        """Files that describe tokenizer and use. The original's processor files name classes transformers lacks."""
        names = TOKENIZER_FILES if self.original else (*TOKENIZER_FILES, *PROCESSOR_FILES)
        return tuple(self.path / name for name in names if (self.path / name).is_file())

    @property
    def files(self) -> tuple[Path, ...]:
        """Everything that counts; whatever else lies in the folder does not."""
        index = () if self.index is None else (self.index,)
        return (self.path / CONFIG, self.path / TOKENIZER, *self.beside, *index, *self.weights)


def read(path: Path) -> CheckpointFolder:
    """The folder, checked for what can be seen without opening the weights.

    Raises:
        ValueError: a file is missing or is a git-lfs pointer, or the model is another one; names it and says what to do.
    """
    config = _config(path)
    if not (path / TOKENIZER).is_file():
        others = [name for name in OTHER_TOKENIZERS if (path / name).is_file()]
        found = (
            f" (only {', '.join(others)}, from which transformers' AutoTokenizer can write one)"
            if others
            else ""
        )
        raise ValueError(f"{path} has no {TOKENIZER}{found}: {REMEDY}")
    index, weights = _weights(path)
    for file in (path / TOKENIZER, *weights):
        _refuse_pointer(file)
    return CheckpointFolder(path=path, config=config, weights=weights, index=index)


def needed(names: Iterable[str]) -> list[str]:
    """Which files of a repository to fetch: of several forms of the weights only the one that is read."""
    there = set(names)
    chosen = [name for name in (CONFIG, TOKENIZER, *TOKENIZER_FILES, *PROCESSOR_FILES) if name in there]
    for whole, shards in WEIGHTS.items():
        if whole in there:
            return [*chosen, whole]
        if f"{whole}.index.json" in there:
            return [
                *chosen,
                f"{whole}.index.json",
                *sorted(name for name in there if re.fullmatch(shards, name)),
            ]
    return chosen


def _config(path: Path) -> dict[str, Any]:
    file = path / CONFIG
    if not file.is_file():
        raise ValueError(f"{path} has no {CONFIG}: {REMEDY}")
    _refuse_pointer(file)
    config = _json(file, "model configuration")
    if config.get("model_type") not in LAYOUTS:
        raise ValueError(
            f"{file} is of model_type {config.get('model_type')!r}, allowed are {' and '.join(map(repr, LAYOUTS))}: {REMEDY}"
        )
    return config


def _weights(path: Path) -> tuple[Path | None, tuple[Path, ...]]:
    for whole in WEIGHTS:
        index = path / f"{whole}.index.json"
        if (path / whole).is_file():
            return None, (path / whole,)
        if index.is_file():
            return index, _shards(index)
    forms = [form for whole in WEIGHTS for form in (whole, f"{whole}.index.json")]
    raise ValueError(f"{path} has no weights, neither {' nor '.join(forms)}: {REMEDY}")


def _shards(index: Path) -> tuple[Path, ...]:
    places = _json(index, "index of shards").get("weight_map")
    if (
        not isinstance(places, dict)
        or not places
        or not all(isinstance(name, str) and "/" not in name for name in places.values())
    ):
        raise ValueError(f"{index} is no index of shards (its weight_map names no files beside it): {REMEDY}")
    shards = [index.parent / name for name in sorted(set(places.values()))]
    missing = [shard.name for shard in shards if not shard.is_file()]
    if missing:
        raise ValueError(
            f"{index.parent} lacks {len(missing)} of the {len(shards)} shards its index names, first {missing[0]}: {REMEDY}"
        )
    return tuple(shards)


def _json(file: Path, what: str) -> dict[str, Any]:
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is no {what} ({error}): {REMEDY}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{file} is no {what} (it holds no object): {REMEDY}")
    return values


def _refuse_pointer(file: Path) -> None:
    with file.open("rb") as stream:
        if stream.read(len(LFS)) == LFS:
            raise ValueError(
                f"{file} is a git-lfs pointer and not the file itself: run `git lfs pull` there, or fetch the file again"
            )
