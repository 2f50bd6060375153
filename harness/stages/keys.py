"""The key of a stage: a hash of everything that decides its numbers, and of nothing else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from harness.stages import contents, sources
from harness.types import Stage

KEY_DIGITS = 12
SERVING = "serving"  # settings of this name say where and how fast an expert answers, not what it answers


_known: ContextVar[dict[int, tuple[Stage, str]] | None] = ContextVar("known", default=None)


@contextmanager
def remembered() -> Iterator[None]:
    """Computes the key of each stage once while the block runs, as if no external file could change in it."""
    token = _known.set({})
    try:
        yield
    finally:
        _known.reset(token)


def key(stage: Stage) -> str:
    """Twelve hex digits: a hash of the stage's `facts`, in which one digest stands for all source files.

    Raises:
        ValueError: see `facts`.
    """
    known = _known.get()
    if known is None:
        return _key(stage)
    if id(stage) not in known:
        known[id(stage)] = stage, _key(stage)  # with the stage, so that no other one gets its id
    return known[id(stage)][1]


def _key(stage: Stage) -> str:
    hashed = {**_facts_without_sources(stage), "sources": sources.digest(roots(stage))}
    return hashlib.sha256(json.dumps(hashed, sort_keys=True).encode()).hexdigest()[:KEY_DIGITS]


def facts(stage: Stage) -> dict[str, Any]:
    """Everything that decides the stage's numbers, as JSON values; inputs are named by their keys.

    Numbers count by value (1 and 1.0 agree), external files by content, wherever they lie. Settings under
    `serving` do not count.

    Raises:
        ValueError: an external file is missing, a setting is no plain value, or a module cannot be read.
    """
    return {**_facts_without_sources(stage), "sources": sources.digests(roots(stage))}


def _facts_without_sources(stage: Stage) -> dict[str, Any]:
    """The facts without the source files."""
    positions = {path: f"external {position}" for position, path in enumerate(stage.external)}
    return {
        "name": stage.name,
        "program": stage.program,
        "settings": plain(stage.settings, positions),
        "inputs": {name: key(source) for name, source in stage.inputs.items()},
        "external": [contents.digest(path) for path in stage.external],
    }


def roots(stage: Stage) -> list[str]:
    """The dotted paths whose source counts: the program, and every `_target_` in the settings."""
    return [stage.program, *sources.targets(stage.settings)]


def differences(planned: Mapping[str, Any], now: Mapping[str, Any], external: Sequence[str]) -> list[str]:
    """Lists the differences between the facts of a stage at two times.

    Each is a phrase such as `source file rewards/judged.py differs` or `setting grpo.steps is new`.

    Args:
        planned: the earlier facts.
        now: the later ones.
        external: the paths of the stage's external files.
    """
    before, after = _named(planned, external), _named(now, external)
    phrases = []
    for name in sorted({**before, **after}):
        if name not in after:
            phrases.append(f"{name} is no longer used")
        elif name not in before:
            phrases.append(f"{name} is new")
        elif before[name] != after[name]:
            phrases.append(f"{name} differs")
    return phrases


def plain(value: Any, replaced: Mapping[str, str] | None = None) -> Any:
    """Settings as JSON values, with numbers in one form and without `serving`.

    Args:
        value: a setting, or settings within settings.
        replaced: text -> the text to put in its place.

    Raises:
        ValueError: a value is no number, text, list or mapping.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return (replaced or {}).get(value, value)
    if isinstance(value, int | float):
        is_whole = value == value and abs(value) != float("inf") and value == int(value)
        return int(value) if is_whole else repr(value)
    if isinstance(value, Mapping):
        return {str(name): plain(item, replaced) for name, item in value.items() if name != SERVING}
    if isinstance(value, list | tuple):
        return [plain(item, replaced) for item in value]
    raise ValueError(
        f"settings of a stage must be plain values (numbers, texts, lists, mappings), got {value!r}"
    )


def _named(facts: Mapping[str, Any], external: Sequence[str]) -> dict[str, str]:
    """Every single fact as JSON, by the name that a message gives it."""
    named = {f"{kind} of the stage": facts[kind] for kind in ("name", "program")}
    named |= {
        f"external file {path}": digest for path, digest in zip(external, facts["external"], strict=True)
    }
    named |= {f"source file {file}": digest for file, digest in facts["sources"].items()}
    named |= {f"input {name}": digest for name, digest in facts["inputs"].items()}
    named |= {f"setting {name}": value for name, value in _single_settings(facts["settings"])}
    return {name: json.dumps(value) for name, value in named.items()}


def _single_settings(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted name and value of every setting in nested settings. Items of a list are named by position."""
    if isinstance(value, dict) and (value or not name):
        items: Any = value.items()
    elif isinstance(value, list) and value:
        items = enumerate(value)
    else:
        yield name, value
        return
    for item_name, item in items:
        yield from _single_settings(item, f"{name}.{item_name}" if name else str(item_name))
