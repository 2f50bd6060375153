"""Components from settings: the objects that `_target_` entries name."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from hydra.utils import instantiate

from harness.paths import user_path

OWN_EXPERTS = ("oracle", "simulated")  # of a benchmark: judge=oracle and the others refer to them
HOME = re.compile(r"~[^/\s]*(/.*)?")  # such a text is a path, whatever its setting is called


_made: ContextVar[dict[str, Any] | None] = ContextVar("made", default=None)


@contextmanager
def remembered() -> Iterator[None]:
    """Lets `make` return the same object for equal settings while the block runs: many cells share them."""
    token = _made.set({})
    try:
        yield
    finally:
        _made.reset(token)


def make(settings: Mapping[str, Any]) -> Any:
    """The object that `settings` describe. All constructors receive plain lists and dicts."""
    made = _made.get()
    if made is None:
        return instantiate(with_homes(settings), _convert_="all")
    text = json.dumps(settings, sort_keys=True, default=repr)
    if text not in made:
        made[text] = instantiate(with_homes(settings), _convert_="all")
    return made[text]


def with_homes(settings: Any) -> Any:
    """The settings with `~` and `~NAME` at the beginning of paths replaced by home folders.

    A text of that form stays where there is no such home folder.
    """
    if isinstance(settings, Mapping):
        return {name: with_homes(value) for name, value in settings.items()}
    if isinstance(settings, list | tuple):
        return [with_homes(value) for value in settings]
    if isinstance(settings, str) and HOME.fullmatch(settings):
        try:
            return str(user_path(settings))
        except ValueError:
            return settings
    return settings


def without_experts(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The resolved settings of a cell whose benchmark, wherever it stands, has no experts of its own.

    The rewards hold those that they use. So another judge retrains nothing that no judge decides.
    """
    whole = settings["benchmarks"]
    rest = {name: value for name, value in whole.items() if name not in OWN_EXPERTS}
    return {name: _replaced(value, whole, rest) for name, value in settings.items()}


def _replaced(value: Any, whole: Any, rest: Any) -> Any:
    """`value` with `rest` wherever `whole` stands in it."""
    if value == whole:
        return rest
    if isinstance(value, Mapping):
        return {name: _replaced(one, whole, rest) for name, one in value.items()}
    return value
