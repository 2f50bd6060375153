"""Advantages: what a sample gains over the others of its group.

`Group` is the paper's (section 3). The others are named after what they divide by. A group whose values are
equal within `LEAST_SPREAD`, or that has fewer than two scored samples, has advantage 0 everywhere.

Deviations are those of the population. Other programs take the sample's, or add a constant to it; the
functions take both as parameters (`bessel`, `epsilon`), and the settings offer neither.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from harness.protocols import Advantage
from harness.settings import number
from harness.types import Grade

LEAST_SPREAD = 1e-8


def spread(values: Sequence[float], *, bessel: bool = False) -> float:
    """The standard deviation of the population, or with `bessel` of the sample; 0 for fewer than two."""
    if len(values) < 2:
        return 0.0
    mean = sum(values) / len(values)
    return math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - bessel))


def standard_scores(values: Sequence[float], *, bessel: bool = False, epsilon: float = 0.0) -> list[float]:
    """The values minus their mean, over deviation + epsilon (GRPO, arXiv 2402.03300)."""
    if spread(values) < LEAST_SPREAD:
        return [0.0] * len(values)
    mean, deviation = sum(values) / len(values), spread(values, bessel=bessel)
    return [(value - mean) / (deviation + epsilon) for value in values]


def centered(values: Sequence[float]) -> list[float]:
    """The values minus their mean (Dr. GRPO, arXiv 2503.20783)."""
    if spread(values) < LEAST_SPREAD:
        return [0.0] * len(values)
    mean = sum(values) / len(values)
    return [value - mean for value in values]


def divided_by_step(
    groups: Sequence[Sequence[float]],
    scale: Sequence[Sequence[float]],
    *,
    bessel: bool = False,
    epsilon: float = 0.0,
) -> list[list[float]]:
    """The values of all groups over the deviation of all values of `scale` + epsilon.

    REINFORCE++ with a group baseline (arXiv 2501.03262) divides centered totals by their own deviation,
    Lite PPO (arXiv 2508.08221) by that of the totals as they are.
    """
    flat: list[float] = []
    for values in scale:
        flat += values
    deviation = spread(flat, bessel=bessel)
    if deviation < LEAST_SPREAD:
        return [[0.0] * len(values) for values in groups]
    return [[value / (deviation + epsilon) for value in values] for values in groups]


def win_rates(values: Sequence[float]) -> list[float]:
    """The share of the other samples that each one beats; a tie is half a win (arXiv 2508.20751)."""
    if len(values) < 2:
        return [0.5] * len(values)
    rates = []
    for value in values:
        lower = sum(other < value for other in values)
        equal = sum(other == value for other in values) - 1
        rates.append((lower + equal / 2) / (len(values) - 1))
    return rates


def decoupled(
    groups: Sequence[Sequence[Mapping[str, float]]],
    weights: Mapping[str, float],
    *,
    bessel: bool = False,
    epsilon: float = 0.0,
) -> list[list[float]]:
    """GDPO (arXiv 2601.05242): standard scores per component, their weighted sum, over the step's deviation.

    Args:
        groups: name -> value of every sample. A sample may lack a component, which then counts nothing.
        weights: name -> weight; 1 where a component is not named.
        bessel: deviations of the sample instead of the population.
        epsilon: is added to every deviation.
    """
    summed = [_weighted_scores(group, weights, bessel=bessel, epsilon=epsilon) for group in groups]
    # Their mean is 0: the scores of a component add up to 0 in every group, whoever lacks it.
    return divided_by_step(summed, summed, bessel=bessel, epsilon=epsilon)


def _weighted_scores(
    group: Sequence[Mapping[str, float]], weights: Mapping[str, float], *, bessel: bool, epsilon: float
) -> list[float]:
    names = dict.fromkeys(name for sample in group for name in sample)
    sums = [0.0] * len(group)
    for name in names:
        having = [index for index, sample in enumerate(group) if name in sample]
        scores = standard_scores([group[index][name] for index in having], bessel=bessel, epsilon=epsilon)
        for index, score in zip(having, scores, strict=True):
            sums[index] += weights.get(name, 1.0) * score
    return sums


class Group(Advantage):
    """The total minus the group's mean, over the group's deviation."""

    def __call__(self, groups: Sequence[Sequence[Grade]]) -> list[list[float]]:
        return [standard_scores(totals) for totals in _totals(groups)]


class Centered(Advantage):
    """The total minus the group's mean. Its size is that of the totals: choose a learning rate for it."""

    def __call__(self, groups: Sequence[Sequence[Grade]]) -> list[list[float]]:
        return [centered(totals) for totals in _totals(groups)]


class Batch(Advantage):
    """The total minus the group's mean, over the deviation of these differences in the whole step."""

    def __call__(self, groups: Sequence[Sequence[Grade]]) -> list[list[float]]:
        differences = [centered(totals) for totals in _totals(groups)]
        return divided_by_step(differences, differences)


class Rank(Advantage):
    """Standard scores of the win rates within the group: distances between totals do not count."""

    def __call__(self, groups: Sequence[Sequence[Grade]]) -> list[list[float]]:
        advantages = []
        for totals in _totals(groups):
            live = spread(totals) >= LEAST_SPREAD
            advantages.append(standard_scores(win_rates(totals)) if live else [0.0] * len(totals))
        return advantages


class Gdpo(Advantage):
    """Every component is normalized in its group, then they are added (GDPO, arXiv 2601.05242).

    Args:
        weights: component -> weight; others have weight 1.
    """

    uses_total = False

    def __init__(self, *, weights: Mapping[str, float]) -> None:
        for name, weight in weights.items():
            number(f"advantage.weights.{name}", weight, least=0)
        self.weights = dict(weights)

    def __call__(self, groups: Sequence[Sequence[Grade]]) -> list[list[float]]:
        return decoupled([[grade.components for grade in group] for group in groups], self.weights)


def _totals(groups: Sequence[Sequence[Grade]]) -> list[list[float]]:
    return [[grade.total for grade in group] for group in groups]
