from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.analysis import statistics
from harness.analysis.statistics import (
    Interval,
    bootstrap_interval,
    clustered_error,
    estimate,
    holm,
    macro_estimate,
    prompt_means,
    sign_flip_p,
    stratified_interval,
    stratified_intervals,
)


def slow_exact_p(differences: list[float]) -> float:
    observed = abs(sum(differences))
    patterns = list(itertools.product((1, -1), repeat=len(differences)))
    extreme = sum(
        abs(sum(sign * value for sign, value in zip(signs, differences, strict=True))) >= observed - 1e-9
        for signs in patterns
    )
    return extreme / len(patterns)


def slow_bootstrap(values: list[float], resamples: int) -> tuple[float, float]:
    draw = random.Random(7)
    means = sorted(sum(draw.choices(values, k=len(values))) / len(values) for _ in range(resamples))
    return means[int(0.025 * resamples)], means[int(0.975 * resamples)]


def slow_holm(p_values: list[float]) -> list[float]:
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted = [0.0] * len(p_values)
    for place, index in enumerate(order):
        adjusted[index] = max(
            min(1.0, (len(p_values) - before) * p_values[order[before]]) for before in range(place + 1)
        )
    return adjusted


def test_prompt_means_average_what_was_scored_and_keep_what_was_not():
    rows = [("b", 1.0), ("a", 0.0), ("b", 0.5), ("c", None), ("a", None)]
    assert prompt_means(rows) == {"a": 0.0, "b": 0.75, "c": None}
    assert list(prompt_means(rows)) == ["a", "b", "c"]


def test_estimate_counts_unscored_prompts_and_never_averages_them():
    found = estimate({"a": 1.0, "b": None, "c": 0.5})
    assert (found.mean, found.prompts, found.unscored) == (0.75, 2, 1)
    assert estimate({"a": None}).mean is None
    assert estimate({}).mean is None


@given(st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.25, 0.5, 1.0]), min_size=1, max_size=9))
def test_few_differences_are_enumerated_exactly(differences):
    assert sign_flip_p(np.array(differences)) == pytest.approx(slow_exact_p(differences))


def test_many_differences_are_close_to_the_exact_p():
    differences = [float(value) for value in np.random.default_rng(3).normal(0.3, 1, size=16)]
    exact = slow_exact_p(differences)
    error = (exact * (1 - exact) / statistics.FLIPS) ** 0.5
    assert sign_flip_p(np.array(differences)) == pytest.approx(exact, abs=4 * error)


def test_zero_differences_do_not_change_p_beyond_chance():
    nonzero = np.random.default_rng(1).normal(0.2, 1, size=40)
    padded = np.concatenate([nonzero, np.zeros(300)])
    assert sign_flip_p(padded) == pytest.approx(sign_flip_p(nonzero), abs=0.02)
    assert sign_flip_p(np.zeros(30)) == 1.0


def test_p_is_never_zero_and_flips_are_at_least_20000():
    assert statistics.FLIPS >= 20_000
    assert sign_flip_p(np.ones(100)) == 1 / (statistics.FLIPS + 1)


def test_p_is_uniform_under_the_null():
    random_numbers = np.random.default_rng(11)
    p_values = np.array([sign_flip_p(random_numbers.normal(0, 1, size=30)) for _ in range(600)])
    for level in (0.05, 0.2, 0.5, 0.8):
        error = (level * (1 - level) / len(p_values)) ** 0.5
        assert np.mean(p_values <= level) == pytest.approx(level, abs=4 * error)


def slow_clustered_error(values, clusters):
    """The sum over pairs of images of one prompt, as the sandwich formula is written."""
    mean, n, count = sum(values) / len(values), len(values), len(set(clusters))
    pairs = itertools.product(zip(values, clusters, strict=True), repeat=2)
    middle = sum((a - mean) * (b - mean) for (a, one), (b, other) in pairs if one == other)
    return (count / (count - 1) * middle) ** 0.5 / n


def test_an_error_clustered_by_prompts_of_equal_size_is_that_of_the_prompt_means():
    values = np.random.default_rng(4).random((30, 10))
    clusters = [f"p{n}" for n in range(30) for _ in range(10)]
    expected = values.mean(axis=1).std(ddof=1) / 30**0.5
    assert clustered_error(values.ravel().tolist(), clusters) == pytest.approx(expected)


@given(
    st.lists(st.tuples(st.floats(0, 1), st.sampled_from("abcd")), min_size=2, max_size=20).filter(
        lambda rows: len({c for _, c in rows}) > 1
    )
)
def test_a_clustered_error_agrees_with_the_textbook(rows):
    values, clusters = zip(*rows, strict=True)
    found = clustered_error(values, clusters)
    assert found == pytest.approx(slow_clustered_error(values, clusters), abs=1e-7)
    assert clustered_error(values[::-1], clusters[::-1]) == pytest.approx(found, abs=1e-7)


def test_images_that_are_copies_add_no_certainty():
    values, clusters = [0.1, 0.9, 0.4], ["a", "b", "c"]
    assert clustered_error(values * 10, clusters * 10) == pytest.approx(clustered_error(values, clusters))


def test_a_clustered_error_needs_two_prompts():
    assert clustered_error([], []) is None
    assert clustered_error([0.2, 0.4], ["a", "a"]) is None


@pytest.mark.parametrize("prompts", [60, 500])
def test_interval_agrees_with_a_slow_bootstrap(prompts):
    values = [float(value) for value in np.random.default_rng(2).random(prompts)]
    found = bootstrap_interval(np.array(values))
    assert (found.low, found.high) == pytest.approx(slow_bootstrap(values, 4000), abs=0.006)
    assert bootstrap_interval(np.array(values)) == found


@given(st.lists(st.sampled_from([0.0, 0.1, 0.25, 1 / 3, 0.7, 1.0]), min_size=2, max_size=200))
@settings(max_examples=25, deadline=None)
def test_interval_is_that_of_the_published_resamples_but_for_rounding(values):
    """Earlier reports counted how often each of up to 200 prompts is drawn. The draws are the same."""
    n = len(values)
    drawn = np.random.default_rng([20_250_522, n, 0]).integers(0, n, (10_000, n))
    counts = np.array([np.bincount(row, minlength=n) for row in drawn], dtype=float)
    low, high = np.quantile(counts @ np.array(values) / n, [0.025, 0.975])
    found = bootstrap_interval(np.array(values))
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-13, abs=1e-15)


def test_interval_covers_the_true_mean():
    random_numbers = np.random.default_rng(5)
    intervals = [bootstrap_interval((random_numbers.random(100) < 0.4).astype(float)) for _ in range(400)]
    covered = np.mean([found.low <= 0.4 <= found.high for found in intervals])
    assert 0.91 <= covered <= 0.98


def test_interval_needs_two_prompts():
    assert bootstrap_interval(np.array([0.5])) == Interval(low=None, high=None)
    assert bootstrap_interval(np.array([0.5, 0.5])) == Interval(low=0.5, high=0.5)


def test_blocks_hold_every_flip_of_large_studies():
    n = 3000
    blocks = -(-statistics.FLIPS // statistics._rows(n))
    assert sum(len(statistics._signs(n, block)) for block in range(blocks)) == statistics.FLIPS


@pytest.mark.parametrize("differences", [[0.1, 0.2, -0.3], [0.3, -0.1, -0.1, -0.1, 0.7, -0.7]])
def test_sums_that_cancel_but_for_rounding_are_ties(differences):
    assert sign_flip_p(np.array(differences)) == 1.0


@given(st.lists(st.floats(min_value=0, max_value=1), max_size=12))
def test_holm_agrees_with_the_textbook(p_values):
    assert holm(p_values) == pytest.approx(slow_holm(p_values))


def test_the_macro_mean_weighs_categories_and_not_prompts():
    many = {f"p{i}": 0.2 for i in range(30)}
    few = {"a": 1.0, "b": 0.6, "c": None}
    found = macro_estimate([many, few])
    assert found.mean == pytest.approx((0.2 + 0.8) / 2)
    assert (found.prompts, found.unscored) == (32, 1)
    assert macro_estimate([many, {"c": None}]).mean is None
    assert macro_estimate([]).mean is None


def test_a_stratified_interval_resamples_within_categories():
    apart = [np.zeros(40), np.ones(40)]  # they differ between categories only
    assert stratified_interval(apart) == Interval(low=0.5, high=0.5)
    mixed = [np.tile([0.0, 1.0], 50), np.tile([0.0, 1.0], 50)]
    wide, narrow = stratified_intervals(mixed, (0.95, 0.9))
    assert (
        wide.low is not None and wide.high is not None and narrow.low is not None and narrow.high is not None
    )
    assert wide.high - wide.low == pytest.approx(2 * 1.96 * 0.5 / np.sqrt(200), rel=0.05)
    assert wide.low < narrow.low < narrow.high < wide.high
    assert stratified_intervals(mixed, (0.95, 0.9)) == [wide, narrow]
    assert stratified_interval([np.ones(5), np.ones(1)]) == Interval(low=None, high=None)
