"""Which groups a step keeps if it draws batches until enough have spread (DAPO, arXiv 2503.14476)."""

from __future__ import annotations

from collections.abc import Sequence


def first_live(batches: Sequence[Sequence[bool]], wanted: int) -> list[tuple[int, int]]:
    """(batch, group) of the first `wanted` live groups in drawing order; fewer where there are not enough.

    Args:
        batches: for every group of every batch, whether it has spread.
        wanted: the groups of a step.
    """
    kept: list[tuple[int, int]] = []
    for batch, groups in enumerate(batches):
        kept += [(batch, group) for group, live in enumerate(groups) if live]
    return kept[:wanted]


def filled(kept: Sequence[tuple[int, int]], first_batch_size: int, wanted: int) -> list[tuple[int, int]]:
    """The live groups and, up to `wanted`, the other groups of the first batch in their order.

    Args:
        kept: every live group, (batch, group), where they are fewer than `wanted`.
        first_batch_size: the groups of the first batch.
        wanted: the groups of a step.
    """
    others = [(0, group) for group in range(first_batch_size) if (0, group) not in kept]
    return [*kept, *others][:wanted]
