"""How well a judge's order of samples agrees with that of a reference: Kendall's tau-b and Spearman's rho.

A pair is a sample that both have scored. Intervals resample prompts, with all samples of a prompt together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.analysis.statistics import ALPHA, Interval
from harness.samples import ScoreRow

RESAMPLES = 1_000  # each computes two rank correlations, about a millisecond
_SEED = 20_250_522
_NO_INTERVAL = Interval(low=None, high=None)


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Rank correlations of a judge with a reference over `pairs` samples of `prompts` prompts.

    `tau` and `rho` are None where they are undefined, and `reason` says why. `unscored` counts the samples
    that the judge left unscored, `no_reference` those without a reference.
    """

    tau: float | None
    rho: float | None
    tau_interval: Interval
    rho_interval: Interval
    pairs: int
    prompts: int
    unscored: int
    no_reference: int
    reason: str | None


def has_reference(row: ScoreRow) -> bool:
    """Whether `harness.evaluation.agreement` made the row."""
    return {"judge", "reference"} <= row.evidence.keys()


def agreement(rows: Iterable[ScoreRow], *, resamples: int = RESAMPLES) -> Agreement:
    """Return the agreement of the values of rows with the references in their evidence.

    Args:
        rows: as `harness.evaluation.agreement` makes them.
        resamples: of the bootstrap; 0 for no intervals.
    """
    referenced, no_reference = [], 0
    for row in rows:
        if row.evidence["reference"] is None:
            no_reference += 1
        else:
            referenced.append(row)
    scored = sorted(
        (row for row in referenced if row.value is not None), key=lambda row: (row.prompt_id, row.index)
    )
    judged = np.array([row.value for row in scored], dtype=float)
    reference = np.array([row.evidence["reference"] for row in scored], dtype=float)
    places: dict[str, list[int]] = {}
    for place, row in enumerate(scored):
        places.setdefault(row.prompt_id, []).append(place)
    clusters = [np.array(of_prompt) for of_prompt in places.values()]
    reason = _why_undefined(judged, reference)
    tau, rho = (None, None) if reason else _correlations(judged, reference)
    intervals = [_NO_INTERVAL, _NO_INTERVAL]
    if reason is None and resamples and len(clusters) > 1:
        intervals = _intervals(judged, reference, clusters, resamples)
    return Agreement(
        tau=tau,
        rho=rho,
        tau_interval=intervals[0],
        rho_interval=intervals[1],
        pairs=len(scored),
        prompts=len(clusters),
        unscored=len(referenced) - len(scored),
        no_reference=no_reference,
        reason=reason,
    )


def agreements(rows_by_arm: Mapping[str, Sequence[ScoreRow]]) -> dict[str, Agreement]:
    """Return arm -> the agreement of its scores, for the arms whose scores all have a reference."""
    found = {}
    for arm, rows in rows_by_arm.items():
        if rows and all(map(has_reference, rows)):
            found[arm] = agreement(rows)
    return found


def _why_undefined(judged: np.ndarray, reference: np.ndarray) -> str | None:
    if len(judged) < 2:
        return "fewer than two pairs"
    for who, values in (("the judge", judged), ("the reference", reference)):
        if np.ptp(values) == 0:
            return f"{who} gave every sample the same score"
    return None


def _correlations(judged: np.ndarray, reference: np.ndarray) -> tuple[float, float]:
    """Return tau-b and rho of two arrays (n,) that are not constant."""
    from scipy.stats import kendalltau, spearmanr  # a slow import, which planning does not need

    tau = kendalltau(judged, reference, method="asymptotic").statistic
    return float(tau), float(spearmanr(judged, reference).statistic)


def _intervals(
    judged: np.ndarray, reference: np.ndarray, clusters: Sequence[np.ndarray], resamples: int
) -> list[Interval]:
    """Return the percentile intervals of tau-b and rho.

    Resamples without two different scores have no correlation and are left out.
    """
    rng = np.random.default_rng([_SEED, len(judged), len(clusters)])
    drawn = []
    for choice in rng.integers(0, len(clusters), (resamples, len(clusters))):
        places = np.concatenate([clusters[number] for number in choice])
        if _why_undefined(judged[places], reference[places]) is None:
            drawn.append(_correlations(judged[places], reference[places]))
    if not drawn:
        return [_NO_INTERVAL, _NO_INTERVAL]
    bounds = np.quantile(np.array(drawn), [ALPHA / 2, 1 - ALPHA / 2], axis=0)
    return [Interval(low=float(low), high=float(high)) for low, high in bounds.T]
