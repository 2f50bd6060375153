"""Plan or drawing: which of the two makes an image wrong, and which of the two changed between checkpoints.

With p = P(plan right), a = P(image right | plan right), b = P(image right | plan wrong), the share of right
images is R = p a + (1 - p) b. Between two checkpoints R2 - R1 is the sum of a plan part and a drawing part.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from harness.analysis.statistics import ALPHA, RESAMPLES, Interval

QUANTITIES = ("p", "a", "b", "right")
_SEED = 20_250_522
_CELLS = {(True, True): 0, (True, False): 1, (False, True): 2, (False, False): 3}


@dataclass(frozen=True, kw_only=True)
class Attribution:
    """The shares of a checkpoint, means over prompts.

    `shares` are those of right plan and right image, right plan and wrong image, wrong plan and right image,
    wrong plan and wrong image. `values` and `intervals` hold p, a, b, and `right`, the share of right images
    (R); a and b are NaN where no plan is right, or none is wrong. Intervals hold for new prompts.
    """

    shares: tuple[float, float, float, float]
    values: Mapping[str, float]
    intervals: Mapping[str, Interval]
    prompts: int
    images: int


@dataclass(frozen=True, kw_only=True)
class Split:
    """The change of the share of right images from one checkpoint to another, over the prompts of both.

    `plan` and `drawing` add up to `change`. Intervals hold for new prompts.
    """

    change: float
    plan: float
    drawing: float
    plan_interval: Interval
    drawing_interval: Interval
    prompts: int


def prompt_shares(rows: Iterable[tuple[str, bool, bool]]) -> dict[str, np.ndarray]:
    """Return prompt id -> its four shares (4,), in the order of `Attribution.shares`.

    Args:
        rows: prompt id, whether the plan is right, whether the image is right; one row per image.
    """
    counts: dict[str, np.ndarray] = {}
    for prompt, plan_right, image_right in rows:
        counts.setdefault(prompt, np.zeros(4))[_CELLS[bool(plan_right), bool(image_right)]] += 1
    return {prompt: counts[prompt] / counts[prompt].sum() for prompt in sorted(counts)}


def quantities(shares: np.ndarray) -> np.ndarray:
    """Return p, a, b and R (..., 4) of shares (..., 4); a and b are NaN where they are undefined."""
    right_right, right_wrong, wrong_right, wrong_wrong = np.moveaxis(shares, -1, 0)
    p, not_p = right_right + right_wrong, wrong_right + wrong_wrong
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.stack([p, right_right / p, wrong_right / not_p, right_right + wrong_right], axis=-1)


def parts(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the plan part and the drawing part (..., 2) of the change between shares (..., 4).

    The plan part is (p2 - p1) (a' - b'), the drawing part p' (a2 - a1) + (1 - p') (b2 - b1); a prime marks
    the mean of both checkpoints. They add up to R2 - R1. Where a (or b) is undefined at one checkpoint, it is
    taken from the other: no change of the drawing was seen.
    """
    p1, a1, b1, _ = np.moveaxis(quantities(first), -1, 0)
    p2, a2, b2, _ = np.moveaxis(quantities(second), -1, 0)
    a1, a2 = _filled(a1, a2)
    b1, b2 = _filled(b1, b2)
    p, a, b = (p1 + p2) / 2, (a1 + a2) / 2, (b1 + b2) / 2
    return np.stack([(p2 - p1) * (a - b), p * (a2 - a1) + (1 - p) * (b2 - b1)], axis=-1)


def _filled(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return both with the other's value where one is undefined, 0 where both are."""
    return (
        np.nan_to_num(np.where(np.isnan(first), second, first)),
        np.nan_to_num(np.where(np.isnan(second), first, second)),
    )


def attribute(rows: Iterable[tuple[str, bool, bool]]) -> Attribution | None:
    """Return the attribution of a checkpoint, or None without images. `rows` as for `prompt_shares`."""
    rows = list(rows)
    if not rows:
        return None
    shares = np.array(list(prompt_shares(rows).values()))
    mean = shares.mean(axis=0)
    bounds = _intervals(quantities(_resampled(shares)))
    right_right, right_wrong, wrong_right, wrong_wrong = map(float, mean)
    return Attribution(
        shares=(right_right, right_wrong, wrong_right, wrong_wrong),
        values=dict(zip(QUANTITIES, map(float, quantities(mean)), strict=True)),
        intervals=dict(zip(QUANTITIES, bounds, strict=True)),
        prompts=len(shares),
        images=len(rows),
    )


def split(first: Mapping[str, np.ndarray], second: Mapping[str, np.ndarray]) -> Split | None:
    """Return the change from the first checkpoint to the second; None without prompts of both.

    Args:
        first: prompt id -> shares, as `prompt_shares` returns them.
        second: the same of the other checkpoint.
    """
    prompts = sorted(first.keys() & second.keys())
    if not prompts:
        return None
    both = np.array([[*first[prompt], *second[prompt]] for prompt in prompts])
    mean, drawn = both.mean(axis=0), _resampled(both)
    plan, drawing = map(float, parts(mean[:4], mean[4:]))
    plan_interval, drawing_interval = _intervals(parts(drawn[:, :4], drawn[:, 4:]))
    return Split(
        change=float(quantities(mean[4:])[3] - quantities(mean[:4])[3]),
        plan=plan,
        drawing=drawing,
        plan_interval=plan_interval,
        drawing_interval=drawing_interval,
        prompts=len(prompts),
    )


def _resampled(values: np.ndarray) -> np.ndarray:
    """Return the means (RESAMPLES, columns) of resampled rows of `values` (prompts, columns).

    NaN with fewer than two prompts. Equal rows are drawn together, which changes no distribution.
    """
    # Not scipy.stats.bootstrap: it has no interval where a resample leaves a share undefined.
    total = len(values)
    if total < 2:
        return np.full((1, values.shape[1]), math.nan)
    distinct, counts = np.unique(values, axis=0, return_counts=True)
    rng = np.random.default_rng([_SEED, 2, total])
    return rng.multinomial(total, counts / total, RESAMPLES) @ distinct / total


def _intervals(drawn: np.ndarray) -> list[Interval]:
    """Return the 95% percentile interval of every column of `drawn`, over the resamples that define it."""
    intervals = []
    for column in drawn.T:
        defined = column[~np.isnan(column)]
        if not len(defined):
            intervals.append(Interval(low=None, high=None))
            continue
        low, high = np.quantile(defined, [ALPHA / 2, 1 - ALPHA / 2])
        intervals.append(Interval(low=float(low), high=float(high)))
    return intervals
