"""The two modes of scoring: `official` keeps every quirk of the official programs, `corrected` fixes them."""

from __future__ import annotations

from typing import Any, Literal, get_args

from harness.settings import choice

Mode = Literal["official", "corrected"]


def check_mode(value: Any) -> Mode:
    """`value` if it is a mode.

    Raises:
        ValueError: it is none; names them.
    """
    choice("benchmarks.scoring.mode", value, get_args(Mode))
    return value
