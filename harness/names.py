"""Names as people type them: the nearest known name, and ids of models on the Hugging Face hub."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")  # owner/name


def nearest(name: str, names: Iterable[str], cutoff: float = 0.4) -> str | None:
    """The known name that is most like `name`, or None where none is at least `cutoff` (0 to 1) similar."""
    matches = difflib.get_close_matches(name, list(names), n=1, cutoff=cutoff)
    return matches[0] if matches else None


def unknown(kind: str, name: str, names: Iterable[str], hint: str = "") -> str:
    """The message for an unknown name: the nearest known name, all known names, and the hint."""
    names = sorted(names)
    near = nearest(name, names)
    question = f" Did you mean {near!r}?" if near else ""
    return f"unknown {kind} {name!r}.{question} Known: {', '.join(names) or 'none'}.{hint}"
