"""The two modes of scoring: `official` reproduces every quirk of the official programs, `corrected`
fixes them.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

Mode = Literal["official", "corrected"]


def check_mode(value: Any) -> Mode:
    """`value` if it is a mode.

    Raises:
        ValueError: it is none; names them.
    """
    if value not in get_args(Mode):
        raise ValueError(f"benchmarks.scoring.mode={value!r}: give {' or '.join(get_args(Mode))}")
    return value
