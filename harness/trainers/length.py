"""The penalty for chains that come close to the length limit (DAPO, arXiv 2503.14476)."""

from __future__ import annotations

FACTOR = 0.5
BUFFER_SHARE = 0.2  # of the limit


def overlong_penalty(
    length: int, limit: int, *, buffer: float | None = None, factor: float = FACTOR
) -> float:
    """0 up to `limit - buffer` ids, then down to -factor at the limit, in a line.

    Args:
        length: the chain's ids.
        limit: the largest length.
        buffer: ids below the limit that cost something; None: a fifth of the limit.
        factor: the penalty at the limit.
    """
    if buffer is None:
        buffer = BUFFER_SHARE * limit
    return -factor * min(max((length - (limit - buffer)) / buffer, 0.0), 1.0)
