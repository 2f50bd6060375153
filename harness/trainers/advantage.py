"""Group advantages (paper section 3: reward minus group mean, over group deviation)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class GroupAdvantages:
    """`values` has one advantage per sample; None for an unscored sample, which teaches nothing."""

    values: tuple[float | None, ...]
    zero_spread: bool


def group_advantages(totals: Sequence[float | None]) -> GroupAdvantages:
    """Advantages of the N samples of one prompt, over the scored ones.

    A group has zero spread if its scored totals are all equal, or fewer than two. Its samples then get
    advantage 0, so that only the KL term acts on them. The deviation is that of the population.
    """
    scored = [total for total in totals if total is not None]
    mean = sum(scored) / len(scored) if scored else 0.0
    deviation = math.sqrt(sum((total - mean) ** 2 for total in scored) / len(scored)) if scored else 0.0
    if deviation < 1e-8:
        return GroupAdvantages(
            values=tuple(None if total is None else 0.0 for total in totals), zero_spread=True
        )
    return GroupAdvantages(
        values=tuple(None if total is None else (total - mean) / deviation for total in totals),
        zero_spread=False,
    )
