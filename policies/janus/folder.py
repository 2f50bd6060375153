"""The content of a checkpoint folder, read without torch: its layout, its weight files and other files.

There are two layouts: `multi_modality`, in which Janus-Pro and GoT-R1 are published, and `janus`, which
transformers writes. Weights are one file, or shards with an index; safetensors are preferred to `.bin`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CONFIG, TOKENIZER = "config.json", "tokenizer.json"
TOKENIZER_FILES = ("tokenizer_config.json", "special_tokens_map.json")  # optional, in both layouts
PROCESSOR_FILES = (
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "chat_template.jinja",
)
OTHER_TOKENIZERS = ("tokenizer.model", "vocab.json", "merges.txt", "tokenizer_config.json")
WEIGHTS = {  # single file: pattern of shards
    "model.safetensors": r"model-[^/]*\.safetensors",
    "pytorch_model.bin": r"pytorch_model-[^/]*\.bin",
}
LAYOUTS = ("multi_modality", "janus")  # model_type in config.json
LFS = b"version https://git-lfs"
REMEDY = "give the whole folder of a Janus-Pro or GoT-R1 model; a damaged one must be made or fetched again"


@dataclass(frozen=True, kw_only=True)
class CheckpointFolder:
    """A folder with all required files; `index` lists the weights of each shard if there are shards."""

    path: Path
    config: dict[str, Any]
    weights: tuple[Path, ...]
    index: Path | None = None

    @property
    def original(self) -> bool:
        """Whether it has the layout in which Janus was published, not transformers'."""
        return self.config["model_type"] == LAYOUTS[0]

    @property
    def beside(self) -> tuple[Path, ...]:
        """Further files of tokenizer and processor.

        Processor files of the original layout name classes that transformers lacks, so they are left out.
        """
        names = TOKENIZER_FILES if self.original else (*TOKENIZER_FILES, *PROCESSOR_FILES)
        return tuple(self.path / name for name in names if (self.path / name).is_file())

    @property
    def files(self) -> tuple[Path, ...]:
        """All files that belong to the checkpoint; other files in the folder do not count."""
        index = () if self.index is None else (self.index,)
        return (self.path / CONFIG, self.path / TOKENIZER, *self.beside, *index, *self.weights)


def read(path: Path) -> CheckpointFolder:
    """The folder, with all checks that do not open the weights.

    Raises:
        ValueError: a file is missing or is a git-lfs pointer, or the model is not a Janus. The message names
            it and says what to do.
    """
    config = _config(path)
    if not (path / TOKENIZER).is_file():
        others = [name for name in OTHER_TOKENIZERS if (path / name).is_file()]
        advice = ""
        if others:
            advice = f" (only {', '.join(others)}, from which transformers' AutoTokenizer can write one)"
        raise ValueError(f"{path} has no {TOKENIZER}{advice}: {REMEDY}")
    index, weights = _weights(path)
    for file in (path / TOKENIZER, *weights):
        _refuse_pointer(file)
    return CheckpointFolder(path=path, config=config, weights=weights, index=index)


def needed(names: Iterable[str]) -> list[str]:
    """The files of a repository to fetch, with only the one form of the weights that is read."""
    available = set(names)
    chosen = [name for name in (CONFIG, TOKENIZER, *TOKENIZER_FILES, *PROCESSOR_FILES) if name in available]
    for single, pattern in WEIGHTS.items():
        if single in available:
            return [*chosen, single]
        if f"{single}.index.json" in available:
            shards = sorted(name for name in available if re.fullmatch(pattern, name))
            return [*chosen, f"{single}.index.json", *shards]
    return chosen


def _config(path: Path) -> dict[str, Any]:
    file = path / CONFIG
    if not file.is_file():
        raise ValueError(f"{path} has no {CONFIG}: {REMEDY}")
    _refuse_pointer(file)
    config = _json(file, "model configuration")
    if config.get("model_type") not in LAYOUTS:
        raise ValueError(
            f"{file} is of model_type {config.get('model_type')!r}, allowed are"
            f" {' and '.join(map(repr, LAYOUTS))}: {REMEDY}"
        )
    return config


def _weights(path: Path) -> tuple[Path | None, tuple[Path, ...]]:
    """The index of the shards, if there are shards, and the weight files."""
    forms = []
    for single in WEIGHTS:
        index = path / f"{single}.index.json"
        if (path / single).is_file():
            return None, (path / single,)
        if index.is_file():
            return index, _shards(index)
        forms += [single, index.name]
    raise ValueError(f"{path} has no weights, neither {' nor '.join(forms)}: {REMEDY}")


def _shards(index: Path) -> tuple[Path, ...]:
    weight_map = _json(index, "index of shards").get("weight_map")
    files = list(weight_map.values()) if isinstance(weight_map, dict) else []
    if not files or not all(isinstance(name, str) and "/" not in name for name in files):
        raise ValueError(f"{index} is no index of shards (its weight_map names no files beside it): {REMEDY}")
    shards = [index.parent / name for name in sorted(set(files))]
    missing = [shard.name for shard in shards if not shard.is_file()]
    if missing:
        raise ValueError(
            f"{index.parent} lacks {len(missing)} of the {len(shards)} shards its index names,"
            f" first {missing[0]}: {REMEDY}"
        )
    return tuple(shards)


def _json(file: Path, content: str) -> dict[str, Any]:
    try:
        values = json.loads(file.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise ValueError(f"{file} is no {content} ({error}): {REMEDY}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{file} is no {content} (it holds no object): {REMEDY}")
    return values


def _refuse_pointer(file: Path) -> None:
    with file.open("rb") as stream:
        if stream.read(len(LFS)) == LFS:
            raise ValueError(
                f"{file} is a git-lfs pointer and not the file itself: run `git lfs pull` there, or fetch"
                " the file again"
            )
