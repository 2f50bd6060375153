"""Components from settings: the objects that `_target_` entries name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hydra.utils import instantiate


def make(settings: Mapping[str, Any]) -> Any:
    """The object that `settings` describe. All constructors receive plain lists and dicts."""
    return instantiate(settings, _convert_="all")
