"""The penalty for chains that come close to the length limit (DAPO, arXiv 2503.14476)."""

from __future__ import annotations

FACTOR = 0.5
BUFFER_SHARE = 0.2  # of the limit


def overlong_penalty(length: int, limit: int, *, buffer: float, factor: float = FACTOR) -> float:
    """0 up to `limit - buffer` ids, then down to -factor at the limit, in a line."""
    return -factor * min(max((length - (limit - buffer)) / buffer, 0.0), 1.0)
