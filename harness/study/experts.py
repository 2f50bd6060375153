"""The experts that give the rewards of a study, named for its report."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from harness.composition.components import make
from harness.types import Cell


def labels(cells: Sequence[Cell]) -> list[str]:
    """The labels of the experts that the reward components of any training stage ask, each once.

    An expert without a label is left out.
    """
    settings_by_text: dict[str, Mapping[str, Any]] = {}
    for rewards in _rewards(cells):
        for component in rewards["components"].values():
            for expert in _experts(component):
                settings_by_text[json.dumps(expert, sort_keys=True)] = expert
    found = dict.fromkeys(map(label, settings_by_text.values()))
    return [one for one in found if one is not None]


def _rewards(cells: Sequence[Cell]) -> Iterator[Mapping[str, Any]]:
    """The rewards of the stages that train against some."""
    for cell in cells:
        for stage in cell.stages:
            if "rewards" in stage.settings:
                yield stage.settings["rewards"]


def _experts(node: Any) -> Iterator[Mapping[str, Any]]:
    """The settings of the objects within a component or another object."""
    parts: Iterable[Any] = (
        node.values() if isinstance(node, Mapping) else node if isinstance(node, list) else ()
    )
    for part in parts:
        if isinstance(part, Mapping) and "_target_" in part:
            yield part
        yield from _experts(part)


def label(settings: Mapping[str, Any]) -> str | None:
    """The property `label` of an expert, else its setting `model`, None with neither."""
    found = getattr(make(settings), "label", settings.get("model"))
    return found if isinstance(found, str) else None
