"""What the sample sizes promise, tried on simulated studies of that size."""

from __future__ import annotations

import numpy as np
import pytest

from harness.analysis.contrasts import Comparison, Spread, half_width, prompt_part, run_part, seed_effects
from harness.analysis.sample_size import MOST_SEEDS, POWER, detectable, prompts_needed, seeds_needed
from harness.analysis.statistics import Interval

NONE = Interval(low=None, high=None)


def comparison(
    effect: float, prompt_error: float | None, run_error: float | None = None, seeds: int = 1
) -> Comparison:
    """A comparison of two categories of 50 prompts."""
    spread = Spread(prompt_error=prompt_error, prompt_df=98, run_error=run_error, seeds=seeds)
    return Comparison(
        effect=effect, interval=NONE, equivalence=NONE, p=0.3, spread=spread, prompts=100, excluded=0,
        by_category={"color": effect, "shape": effect},
    )  # fmt: skip


def simulated(effect: float, seeds: int, prompts: int, run_sd: float, studies: int = 2000):
    """Effects and half-widths (at 5 and 10%) of studies of two categories, prompts of s.d. 0.4."""
    random = np.random.default_rng(5)
    runs = run_sd * random.standard_normal((studies, seeds, 1))
    prompt_effects = random.normal(0, 0.4, (2, studies, 1, prompts))
    strata = [effect + runs + values for values in prompt_effects]
    by_seed = seed_effects(strata)
    error, df = prompt_part(strata)
    run_error = run_part(by_seed) if seeds > 1 else 0.0 * error
    widths = [half_width(level, error, df, run_error, max(seeds, 2)) for level in (0.05, 0.1)]
    return by_seed.mean(axis=-1), *widths


def test_the_prompts_that_show_an_effect_have_the_power_they_promise():
    needed = prompts_needed(comparison(0.1, 0.4 / 100**0.5), margin=0.02, level=0.05)
    assert needed == 63  # ((1.960 + 0.842) * 0.4 / 0.1) ** 2 = 125.6, in two categories
    effects, half, _ = simulated(0.1, 1, needed, 0.0)
    assert np.mean(effects - half > 0) == pytest.approx(POWER, abs=0.03)


@pytest.mark.parametrize("effect", [0.0, 0.01])
def test_the_prompts_that_show_equality_have_at_least_the_power_they_promise(effect):
    needed = prompts_needed(comparison(effect, 0.4 / 100**0.5), margin=0.05, level=0.05)
    assert needed is not None
    effects, _, half = simulated(effect, 1, needed, 0.0)
    assert POWER - 0.03 < np.mean(np.abs(effects) + half < 0.05) < 0.95


def test_more_prompts_decide_nothing_where_runs_differ_too_much():
    found = comparison(0.03, 0.02, run_error=0.02, seeds=3)
    assert prompts_needed(found, margin=0.02, level=0.05) is None
    seeds = seeds_needed(comparison(0.06, 0.02, run_error=0.02, seeds=3), margin=0.02, level=0.05)
    assert seeds is not None and 3 < seeds <= MOST_SEEDS


def test_the_prompts_needed_with_several_seeds_leave_room_for_the_runs():
    with_runs = prompts_needed(comparison(0.1, 0.04, run_error=0.01, seeds=3), margin=0.02, level=0.05)
    without = prompts_needed(comparison(0.1, 0.04), margin=0.02, level=0.05)
    assert with_runs is not None and without is not None and with_runs > without


def test_the_seeds_needed_have_at_least_the_power_they_promise():
    effect, prompts, run_sd = 0.1, 200, 0.06
    found = comparison(effect, 0.4 / (2 * prompts) ** 0.5, run_error=run_sd / 3**0.5, seeds=3)
    needed = seeds_needed(found, margin=0.02, level=0.05)
    assert needed is not None
    effects, half, _ = simulated(effect, needed, prompts, run_sd)
    assert POWER - 0.05 < np.mean(effects - half > 0) < 0.95


def test_seeds_cannot_make_up_for_too_few_prompts():
    assert seeds_needed(comparison(0.03, 0.02, run_error=0.001, seeds=3), margin=0.02, level=0.05) is None


def test_one_seed_says_nothing_about_seeds():
    assert seeds_needed(comparison(0.1, 0.1), margin=0.02, level=0.05) is None


@pytest.mark.parametrize("found", [comparison(0.02, 0.1), comparison(0.1, None), comparison(0.1, 0.0)])
def test_nothing_is_promised_at_the_margin_or_without_a_spread(found):
    assert prompts_needed(found, margin=0.02, level=0.05) is None


@pytest.mark.parametrize(("seeds", "run_sd"), [(1, 0.0), (3, 0.02), (5, 0.02)])
def test_a_detectable_difference_is_found_as_often_as_promised(seeds, run_sd):
    run_error = run_sd / seeds**0.5 if seeds > 1 else None
    spread = Spread(prompt_error=0.4 / 400**0.5, prompt_df=398, run_error=run_error, seeds=seeds)
    difference = detectable(spread)
    assert difference is not None
    effects, half, _ = simulated(difference, seeds, 200, run_sd)
    assert POWER - 0.03 < np.mean(effects - half > 0) < 0.95


def test_nothing_is_detectable_without_a_prompt_error():
    spread = Spread(prompt_error=None, prompt_df=0, run_error=None, seeds=1)
    assert detectable(spread) is None
