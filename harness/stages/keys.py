"""The key of a stage: a hash of everything that decides its numbers, and of nothing else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from harness.stages import sources
from harness.types import Stage

KEY_DIGITS = 12
SERVING = "serving"  # an entry of that name says how an expert is reached or run (address, device, batch), never what it answers


def key(stage: Stage) -> str:
    """Twelve hex digits from the stage's name, program, settings, inputs, external contents and source code.

    Numbers count by value (1 and 1.0 agree), external files by content, wherever they lie; `serving` entries do not count.

    Raises:
        ValueError: an external file is missing, or a setting is no plain value.
    """
    external = {path: content_digest(path) for path in stage.external}
    facts = {
        "name": stage.name,
        "program": stage.program,
        "settings": plain(stage.settings, external),
        "inputs": {name: key(source) for name, source in stage.inputs.items()},
        "external": list(external.values()),
        "sources": sources.digest([stage.program, *sources.targets(stage.settings)]),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:KEY_DIGITS]


def plain(value: Any, replaced: Mapping[str, str] | None = None) -> Any:
    """Settings as JSON values, numbers in one form, without `serving` entries; strings that are keys of `replaced` become its values."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return (replaced or {}).get(value, value)
    if isinstance(value, int | float):
        return (
            int(value)
            if value == value and abs(value) != float("inf") and value == int(value)
            else repr(value)
        )
    if isinstance(value, Mapping):
        return {str(name): plain(item, replaced) for name, item in value.items() if name != SERVING}
    if isinstance(value, list | tuple):
        return [plain(item, replaced) for item in value]
    raise ValueError(f"settings of a stage are plain values (numbers, texts, lists, mappings), got {value!r}")


def content_digest(path: str | Path) -> str:
    """Hash of a file, or of all files of a folder with their names within it."""
    root = Path(path)
    if root.is_file():
        return sources.file_digest(root)
    if not root.is_dir():
        raise ValueError(
            f"{root} does not exist: give the path of a file or folder that does, or fetch it first"
        )
    stats = tuple((file, file.stat().st_mtime_ns) for file in sorted(root.rglob("*")) if file.is_file())
    return _folder_digest(root, stats)


@cache
def _folder_digest(root: Path, stats: tuple[tuple[Path, int], ...]) -> str:
    sha = hashlib.sha256()
    for file, _ in stats:
        sha.update(f"{file.relative_to(root).as_posix()} {sources.file_digest(file)}\n".encode())
    return sha.hexdigest()
