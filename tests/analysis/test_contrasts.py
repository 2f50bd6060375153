from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t

from harness.analysis.contrasts import (
    SMALLEST_P,
    Comparison,
    Contrast,
    Spread,
    about_training,
    compare,
    half_width,
    measure_spread,
    prompt_part,
    seed_effects,
    training_p,
)
from harness.analysis.statistics import bootstrap_interval, sign_flip_p, stratified_intervals

NAN = float("nan")


def measured(differences: dict[str, list[list[float]]]) -> Comparison:
    found = compare({name: np.array(values) for name, values in differences.items()})
    assert isinstance(found, Comparison)
    return found


def noise(seeds: int, prompts: int, number: int = 0) -> np.ndarray:
    return np.random.default_rng(number).normal(0.1, 0.4, (seeds, prompts))


def test_categories_weigh_the_same_and_unscored_prompts_are_excluded_and_counted():
    found = measured({"color": [[1.0, 0.5, NAN, 0.0]], "shape": [[-0.5, -0.5]]})
    assert found.effect == pytest.approx((0.5 - 0.5) / 2)
    assert (found.prompts, found.excluded) == (5, 1)
    assert found.by_category == {"color": pytest.approx(0.5), "shape": pytest.approx(-0.5)}


def test_a_category_without_a_pair_is_no_comparison():
    color = np.array([[1.0, 0.0]])
    assert compare({"color": color, "shape": np.array([[NAN, NAN]])}) == "no prompt of shape scored in both"
    late = np.array([[1.0, 0.0], [NAN, NAN]])
    assert compare({"color": late}) == "a seed has no prompt of color scored in both"


def test_seeds_weigh_the_same_although_they_scored_different_prompts():
    found = measured({"color": [[1.0, 1.0, NAN, 0.0], [0.0, NAN, NAN, NAN]]})
    assert found.by_seed == (pytest.approx(2 / 3), 0.0)
    assert found.effect == pytest.approx(1 / 3)
    assert (found.prompts, found.excluded) == (3, 3)


@pytest.mark.parametrize("seeds", [1, 3])
def test_a_test_of_more_than_a_difference_moves_p_alone(seeds):
    values = {"color": noise(seeds, 80), "shape": noise(seeds, 50, number=1)}
    plain, moved = compare(values), compare(values, above=0.3)
    shifted = compare({name: one - 0.3 for name, one in values.items()})
    assert moved.p == pytest.approx(shifted.p) and moved.p != plain.p
    assert (moved.effect, moved.interval, moved.equivalence) == (
        plain.effect,
        plain.interval,
        plain.equivalence,
    )


def test_one_seed_and_one_category_is_the_bootstrap_and_the_sign_flip_of_the_prompts():
    values = noise(1, 60)
    found = measured({"color": values.tolist()})
    assert found.interval == bootstrap_interval(values[0])
    assert found.equivalence == stratified_intervals([values[0]], (0.9,))[0]
    assert found.p == pytest.approx(sign_flip_p(values[0]), abs=1e-4)
    assert found.spread.prompt_error == pytest.approx(values.std(ddof=1) / 60**0.5)
    assert found.spread.run_error is None


def test_one_seed_flips_the_sign_of_each_prompt_with_its_weight():
    color, shape = [0.5, 0.25, -0.5], [1.0, 0.5]
    weighted = [value / (2 * 3) for value in color] + [value / (2 * 2) for value in shape]
    sums = [
        sum(sign * value for sign, value in zip(signs, weighted, strict=True))
        for signs in itertools.product((1, -1), repeat=5)
    ]
    expected = np.mean([abs(total) >= abs(sum(weighted)) - 1e-9 for total in sums])
    assert measured({"color": [color], "shape": [shape]}).p == pytest.approx(expected)


@pytest.mark.parametrize("seeds", [1, 3])
def test_the_other_direction_has_the_other_sign_and_the_same_p(seeds):
    values = {"color": noise(seeds, 40), "shape": noise(seeds, 30, 1)}
    one, other = compare(values), compare({name: -array for name, array in values.items()})
    assert isinstance(one, Comparison) and isinstance(other, Comparison)
    assert one.effect == pytest.approx(-other.effect)
    assert one.p == pytest.approx(other.p)


def test_the_prompt_part_is_that_of_the_means_over_seeds():
    strata = [noise(3, 50), noise(3, 20, 1)]
    parts = [values.mean(axis=0).var(ddof=1) / values.shape[1] / 4 for values in strata]
    spread = measure_spread(strata)
    assert spread.prompt_error == pytest.approx(sum(parts) ** 0.5)
    assert spread.prompt_df == pytest.approx(sum(parts) ** 2 / (parts[0] ** 2 / 49 + parts[1] ** 2 / 19))
    assert spread.run_error == pytest.approx(seed_effects(strata).std(ddof=1) / 3**0.5)


def test_the_spread_of_many_studies_at_once_is_that_of_each():
    strata = [np.random.default_rng(2).random((5, 3, 12)) for _ in range(2)]
    strata[0][:, 1, 4] = NAN
    errors, freedom = prompt_part(strata)
    for number in range(5):
        spread = measure_spread([values[number] for values in strata])
        assert (spread.prompt_error, spread.prompt_df) == (
            pytest.approx(errors[number]), pytest.approx(freedom[number]),
        )  # fmt: skip


def test_an_interval_over_runs_joins_two_half_widths():
    spread = Spread(prompt_error=0.01, prompt_df=1000, run_error=0.02, seeds=3)
    half = np.hypot(t.ppf(0.975, 1000) * 0.01, t.ppf(0.975, 2) * 0.02)
    interval = about_training(0.1, spread, 0.05)
    assert (interval.low, interval.high) == (pytest.approx(0.1 - half), pytest.approx(0.1 + half))


def test_two_seeds_decide_little():
    spread = Spread(prompt_error=0.005, prompt_df=1000, run_error=0.02, seeds=2)
    assert training_p(0.144, spread) > 0.05


@given(st.floats(-0.3, 0.3), st.floats(0.001, 0.1), st.floats(0, 0.1), st.integers(2, 5), st.floats(2, 1200))
@settings(max_examples=60, deadline=None)
def test_p_and_interval_agree_on_a_difference(effect, prompt_error, run_error, seeds, prompt_df):
    spread = Spread(prompt_error=prompt_error, prompt_df=prompt_df, run_error=run_error, seeds=seeds)
    p = training_p(effect, spread)
    assert SMALLEST_P <= p <= 1
    for level in (0.01, 0.05, 0.3):
        half = half_width(level, *map(np.array, (prompt_error, prompt_df, run_error)), seeds)
        if abs(abs(effect) - half) > 1e-6:
            assert (p < level) == (abs(effect) > half)


def test_equal_arms_are_equal_beyond_doubt():
    for seeds in (1, 3):
        found = measured({"color": np.zeros((seeds, 10)).tolist()})
        assert (found.effect, found.p, found.equivalence.low, found.equivalence.high) == (0, 1, 0, 0)


def test_a_category_of_one_prompt_has_no_interval():
    for seeds in (1, 2):
        found = measured({"color": np.ones((seeds, 1)).tolist(), "shape": noise(seeds, 10).tolist()})
        assert found.interval.low is None and found.equivalence.high is None
        assert found.spread.prompt_error is None
    assert found.p == 1.0


def test_a_contrast_has_a_part_per_category_and_names_its_only_category():
    contrast = Contrast("full", "w_PI", ("color", "shape"))
    assert [part.label() for part in contrast.parts()] == ["full > w_PI (color)", "full > w_PI (shape)"]
    assert contrast.label() == "full > w_PI"
