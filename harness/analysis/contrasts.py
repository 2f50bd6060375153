"""Contrasts: the difference of two arms as the mean over categories, with its uncertainty.

With one seed, a comparison is about the two models of this run: prompts are resampled. With several seeds it
is about training: another training run would give another difference, so the spread over runs counts too.

**Several seeds.** D_s is the difference of seed s and D their mean. The variance of D has a prompt part A
(of the prompts' differences, averaged over seeds; within categories) and a run part B (the variance of D_s
over the seeds, divided by their number S). The half-width of the interval is the root of the sum of squares
of the two half-widths that each part alone would have: sqrt(t(A)^2 A + t(S-1)^2 B). S. Banerjee proved that
this covers at least as often as stated if the parts are independent and normal (Sankhya 22, 1960).

Simulations chose this rule: 6 categories of 200 prompts, normal or tied scores, a prompt-by-run interaction
of 0, 50 or 100% of the variance of a prompt, a standard deviation over runs of 0 to 0.04, 2000 studies for
each case. Lowest coverage of the 95% interval with 2, 3 and 5 seeds:

- A + B with the degrees of freedom of Satterthwaite: 87.1, 93.0 and 94.0%. The estimated run part is small
  by chance just when it matters.
- A + B - C with these degrees of freedom, C the interaction that A and B both count (crossed random
  effects): 87.1, 93.0 and 94.0%.
- sum of squared half-widths: 94.7, 95.0 and 94.7%, which is 95% within the error of the simulation (0.5%).

The price is width. With two seeds the run part has t = 12.7, so two seeds decide little.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from harness.analysis.statistics import ALPHA, Interval, sign_flip_p, stratified_intervals

EQUIVALENCE = 1 - 2 * ALPHA  # this interval within the margin: two one-sided tests at ALPHA
SMALLEST_P = 1e-9  # of the comparisons over several seeds: a smaller p is reported as this


@dataclass(frozen=True)
class Contrast:
    """One hypothesis: on average over `categories`, `better` scores above `than` by more than `above`."""

    better: str
    than: str
    categories: tuple[str, ...]
    above: float = 0.0

    @property
    def hypothesis(self) -> str:
        """The arms, and the difference that is claimed where it is more than 0."""
        return f"{self.better} > {self.than}" + (f" + {self.above:g}" if self.above else "")

    def label(self) -> str:
        """Return the hypothesis, and the category where there is only one."""
        where = f" ({self.categories[0]})" if len(self.categories) == 1 else ""
        return f"{self.hypothesis}{where}"

    def parts(self) -> list[Contrast]:
        """Return the contrast of every category on its own."""
        return [Contrast(self.better, self.than, (category,), self.above) for category in self.categories]


@dataclass(frozen=True, kw_only=True)
class Spread:
    """The standard errors of a difference.

    `prompt_error` is that of new prompts, None with a category of fewer than two prompts; `prompt_df` are
    its degrees of freedom. `run_error` is that of new training runs, None with one seed.
    """

    prompt_error: float | None
    prompt_df: float
    run_error: float | None
    seeds: int


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A measured contrast: its mean `effect` over seeds and categories, in units of the score.

    `p` (two-sided, uncorrected) tests that the effect is `above`, which is 0 unless the contrast claims more.
    It decides on a difference, with `interval`, which has 95%; `equivalence` has 90% and decides on equality.
    `prompts` were scored in both arms with some seed; `excluded` counts the prompts that some seed could not
    compare.
    """

    effect: float
    interval: Interval
    equivalence: Interval
    p: float
    spread: Spread
    prompts: int
    excluded: int
    by_seed: tuple[float, ...] = ()
    by_category: Mapping[str, float] = field(default_factory=dict)
    above: float = 0.0


def compare(differences: Mapping[str, np.ndarray], above: float = 0.0) -> Comparison | str:
    """Return the comparison of two arms, or the reason why there is none.

    Args:
        differences: category -> (seeds, prompts), the difference of the prompt's means over images; NaN
            where an arm left the prompt unscored.
        above: the effect that p tests.
    """
    for category, values in differences.items():
        if np.isnan(values).all(axis=1).any():
            where = "" if len(values) == 1 else "a seed has "
            return f"{where}no prompt of {category} scored in both"
    strata = list(differences.values())
    seeds = len(strata[0])
    by_seed = seed_effects(strata)
    effect, spread = float(by_seed.mean()), measure_spread(strata)
    if seeds == 1:
        (interval, equivalence), p = _about_this_run([values[0] for values in strata], above)
    else:
        interval, equivalence = (about_training(effect, spread, level) for level in (ALPHA, 2 * ALPHA))
        p = training_p(effect - above, spread)
    missing = [np.isnan(values) for values in strata]
    return Comparison(
        effect=effect,
        interval=interval,
        equivalence=equivalence,
        p=p,
        spread=spread,
        prompts=sum(int((~gaps.all(axis=0)).sum()) for gaps in missing),
        excluded=sum(int(gaps.any(axis=0).sum()) for gaps in missing),
        by_seed=tuple(map(float, by_seed)),
        by_category={name: float(seed_effects([values]).mean()) for name, values in differences.items()},
        above=above,
    )


def _about_this_run(strata: Sequence[np.ndarray], above: float) -> tuple[list[Interval], float]:
    """Return the bootstrap intervals (95% and 90%) and the sign-flip p of strata of shape (prompts,).

    A prompt weighs 1 / (categories x prompts of its category), so the weighted differences sum to the effect.
    """
    scored = [values[~np.isnan(values)] for values in strata]
    weighted = [(values - above) / (len(scored) * len(values)) for values in scored]
    intervals = stratified_intervals(scored, (1 - ALPHA, EQUIVALENCE))
    return intervals, sign_flip_p(np.concatenate(weighted))


def seed_effects(strata: Sequence[np.ndarray]) -> np.ndarray:
    """Return D_s (..., seeds): the mean over strata (..., seeds, prompts) of the mean over scored prompts."""
    return np.mean([np.nanmean(values, axis=-1) for values in strata], axis=0)


def measure_spread(strata: Sequence[np.ndarray]) -> Spread:
    """Return the standard errors of the mean difference of strata of shape (seeds, prompts)."""
    error, df = prompt_part(strata)
    seeds = strata[0].shape[0]
    return Spread(
        prompt_error=None if np.isnan(error) else float(error),
        prompt_df=float(df),
        run_error=float(run_part(seed_effects(strata))) if seeds > 1 else None,
        seeds=seeds,
    )


def prompt_part(strata: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return the standard error over prompts and its degrees of freedom, of strata (..., seeds, prompts).

    A prompt's contribution is its deviation from the mean of its category and seed, summed over the seeds
    that scored it. With every prompt scored, that is the deviation of its mean over seeds. The error
    is NaN where a category has fewer than two prompts.
    """
    variances, counts = [], []
    for values in strata:
        scored = ~np.isnan(values)
        deviations = np.where(scored, values - np.nanmean(values, axis=-1, keepdims=True), 0.0)
        shares = (deviations / scored.sum(axis=-1, keepdims=True)).mean(axis=-2) / len(strata)
        count = scored.any(axis=-2).sum(axis=-1).astype(float)
        with np.errstate(invalid="ignore", divide="ignore"):
            variances.append(count / (count - 1) * (shares**2).sum(axis=-1))
        counts.append(count)
    variance, freedom = np.sum(variances, axis=0), np.array(counts) - 1
    with np.errstate(invalid="ignore", divide="ignore"):
        df = variance**2 / np.sum(np.square(variances) / freedom, axis=0)  # Satterthwaite over categories
    return np.sqrt(variance), np.where(variance > 0, df, freedom.sum(axis=0))


def run_part(by_seed: np.ndarray) -> np.ndarray:
    """Return the standard error over training runs of effects of shape (..., seeds), two seeds or more."""
    return by_seed.std(axis=-1, ddof=1) / np.sqrt(by_seed.shape[-1])


def half_width(
    level: float, prompt_error: np.ndarray, prompt_df: np.ndarray, run_error: np.ndarray, seeds: int
) -> np.ndarray:
    """Return the half-width of the interval of confidence 1 - `level` over prompts and training runs."""
    from scipy.stats import t  # a slow import, which planning does not need

    return np.hypot(t.isf(level / 2, prompt_df) * prompt_error, t.isf(level / 2, seeds - 1) * run_error)


def about_training(effect: float, spread: Spread, level: float) -> Interval:
    """Return the interval of confidence 1 - `level` over prompts and training runs."""
    if spread.prompt_error is None:
        return Interval(low=None, high=None)
    half = _half_width(level, spread)
    return Interval(low=effect - half, high=effect + half)


def training_p(effect: float, spread: Spread) -> float:
    """Return the level at which the interval over prompts and training runs ends at 0; 1 without an error."""
    from scipy.optimize import brentq

    if not effect or spread.prompt_error is None:
        return 1.0
    if _half_width(SMALLEST_P, spread) <= abs(effect):
        return SMALLEST_P
    return float(brentq(lambda level: _half_width(level, spread) - abs(effect), SMALLEST_P, 1.0, xtol=1e-12))


def _half_width(level: float, spread: Spread) -> float:
    errors = np.array(spread.prompt_error), np.array(spread.prompt_df), np.array(spread.run_error)
    return float(half_width(level, *errors, spread.seeds))
