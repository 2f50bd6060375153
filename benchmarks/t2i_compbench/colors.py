"""Prompts of two colored objects, "a red apple and a green bench", as most of color_val.txt are."""

from __future__ import annotations

import re

COLORS = frozenset(
    (
        *("red", "blue", "green", "brown", "black", "white", "yellow"),
        *("gold", "gray", "grey", "pink", "purple", "silver", "orange"),
    )
)
_FORM = re.compile(r"a (\w+) (.+?) and a (\w+) (.+)", re.IGNORECASE)


def colors_of(text: str) -> tuple[tuple[str, str], ...]:
    """Return the (color, object) pairs of a prompt of this form with known colors; none for other texts."""
    match = _FORM.fullmatch(text.strip())
    if match is None:
        return ()
    first, name, second, other = match.groups()
    if not {first.lower(), second.lower()} <= COLORS:
        return ()
    return ((first.lower(), name), (second.lower(), other))
