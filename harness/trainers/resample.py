"""Which groups of several drawings a step trains on (dynamic sampling of DAPO, arXiv 2503.14476)."""

from __future__ import annotations

from collections.abc import Sequence


def first_live(live: Sequence[bool], wanted: int) -> list[int]:
    """The positions of the first `wanted` live groups; where there are too few, the first others follow.

    Args:
        live: whether each group has spread, in the order of drawing.
        wanted: groups of a step.
    """
    positions = [position for position, has_spread in enumerate(live) if has_spread][:wanted]
    dead = [position for position, has_spread in enumerate(live) if not has_spread]
    return positions + dead[: wanted - len(positions)]
