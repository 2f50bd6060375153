"""Rank correlations against counts by hand, and intervals that keep the samples of a prompt together."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Sequence

import pytest

from harness.analysis.agreement import Agreement, agreement, agreements, has_reference
from harness.samples import ScoreRow

Pair = tuple[str, float | None, float | None]  # prompt id, the judge's score, the reference


def row(index: int, pair: Pair) -> ScoreRow:
    prompt_id, value, reference = pair
    return ScoreRow(
        index=index,
        prompt_id=prompt_id,
        category="color",
        number=0,
        seed=0,
        value=value,
        unscored="silent" if value is None else None,
        evidence={"reference": reference, "judge": {}},
    )


def measured(pairs: Sequence[Pair], resamples: int = 100) -> Agreement:
    return agreement([row(index, pair) for index, pair in enumerate(pairs)], resamples=resamples)


def tau_b(judged: Sequence[float], reference: Sequence[float]) -> float:
    """(concordant - discordant) / sqrt(pairs untied in one * pairs untied in the other), pair by pair."""
    difference = untied_judged = untied_reference = 0
    for (x, y), (other_x, other_y) in itertools.combinations(zip(judged, reference, strict=True), 2):
        left, right = (x > other_x) - (x < other_x), (y > other_y) - (y < other_y)
        difference += left * right
        untied_judged += left != 0
        untied_reference += right != 0
    return difference / math.sqrt(untied_judged * untied_reference)


def mean_ranks(values: Sequence[float]) -> list[float]:
    return [
        sum(other < value for other in values) + (sum(other == value for other in values) + 1) / 2
        for value in values
    ]


def rho(judged: Sequence[float], reference: Sequence[float]) -> float:
    left, right = mean_ranks(judged), mean_ranks(reference)
    middle = (len(left) + 1) / 2
    product = sum((x - middle) * (y - middle) for x, y in zip(left, right, strict=True))
    squares = [sum((rank - middle) ** 2 for rank in ranks) for ranks in (left, right)]
    return product / math.sqrt(squares[0] * squares[1])


def grades(seed: int, count: int = 60, most: int = 10) -> list[Pair]:
    """Grades with many ties; the judge adds noise to the reference."""
    rng = random.Random(seed)
    pairs: list[Pair] = []
    for number in range(count):
        reference = rng.randint(0, most)
        judged = min(most, max(0, reference + rng.randint(-6, 6)))
        pairs.append((f"p{number // 2}", judged / 10, float(reference)))
    return pairs


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("most", [1, 3, 10])
def test_both_correlations_equal_those_counted_by_hand_with_ties(seed, most):
    pairs = grades(seed, most=most)
    judged, reference = [pair[1] for pair in pairs], [pair[2] for pair in pairs]
    found = measured(pairs, resamples=0)
    assert found.tau == pytest.approx(tau_b(judged, reference))
    assert found.rho == pytest.approx(rho(judged, reference))
    assert (found.pairs, found.prompts, found.reason) == (60, 30, None)


def test_the_same_order_on_another_scale_agrees_fully_and_the_reverse_order_not_at_all():
    same = measured([(f"p{n}", n / 10, 100.0 * n**3) for n in range(9)])
    assert (same.tau, same.rho) == (pytest.approx(1), pytest.approx(1))
    assert (same.tau_interval.low, same.tau_interval.high) == (pytest.approx(1), pytest.approx(1))
    turned = measured([(f"p{n}", n / 10, -float(n)) for n in range(9)])
    assert (turned.tau, turned.rho) == (pytest.approx(-1), pytest.approx(-1))


def test_samples_without_a_score_or_a_reference_are_no_pairs_and_are_counted():
    pairs = grades(0)
    more = [*pairs, ("p0", None, 3.0), ("q", None, 4.0), ("q", None, None), ("p1", 0.5, None)]
    found, without = measured(more), measured(pairs)
    assert (found.unscored, found.no_reference, found.pairs) == (2, 2, 60)
    assert (found.tau, found.tau_interval) == (without.tau, without.tau_interval)


@pytest.mark.parametrize(
    ("pairs", "reason"),
    [
        ([], "fewer than two pairs"),
        ([("p", 0.5, 1.0)], "fewer than two pairs"),
        ([("p", 0.5, 1.0), ("q", 0.5, 2.0)], "the judge gave every sample the same score"),
        ([("p", 0.5, 1.0), ("q", 0.6, 1.0)], "the reference gave every sample the same score"),
    ],
)
def test_without_two_different_scores_there_is_no_correlation_and_the_reason_is_stated(pairs, reason):
    found = measured(pairs)
    assert (found.tau, found.rho, found.reason) == (None, None, reason)
    assert found.tau_interval.low is None and found.rho_interval.high is None


def test_one_prompt_has_a_correlation_and_no_interval():
    found = measured([("p", 0.1, 1.0), ("p", 0.2, 2.0), ("p", 0.3, 1.5)])
    assert found.tau == pytest.approx(1 / 3) and found.tau_interval.low is None


def test_the_order_of_the_rows_changes_nothing():
    rows = [row(index, pair) for index, pair in enumerate(grades(1))]
    assert agreement(rows, resamples=50) == agreement(rows[::-1], resamples=50)


def test_copies_of_a_prompts_samples_do_not_narrow_the_interval():
    pairs = [(f"p{number}", value, reference) for number, (_, value, reference) in enumerate(grades(2))]
    copied = [pair for pair in pairs for _ in range(6)]
    strangers = [(f"{pair[0]}-{copy}", *pair[1:]) for pair in pairs for copy in range(6)]
    width, kept, narrowed = (
        found.tau_interval.high - found.tau_interval.low
        for found in (measured(sample, resamples=300) for sample in (pairs, copied, strangers))
    )
    assert kept == pytest.approx(width, rel=0.25) and narrowed < 0.6 * width


def test_the_interval_covers_the_true_correlation_about_as_often_as_it_says():
    truth = measured(grades(99, count=4000), resamples=0).tau
    covered = 0
    for seed in range(100, 140):
        interval = measured(grades(seed, count=80), resamples=100).tau_interval
        covered += interval.low <= truth <= interval.high
    assert covered >= 33  # of 40: a true 95 % falls below this in one of two thousand cases


def test_only_arms_whose_every_score_has_a_reference_are_studies_of_judges():
    judged = [row(index, pair) for index, pair in enumerate(grades(3, count=8))]
    plain = ScoreRow(
        index=9, prompt_id="p", category="color", number=0, seed=0, value=0.5, unscored=None, evidence={}
    )
    assert has_reference(judged[0]) and not has_reference(plain)
    assert list(agreements({"judge": judged, "none": [], "plain": [plain], "mixed": [*judged, plain]})) == [
        "judge"
    ]
