"""Agreement with a published table whose order is known."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr

from harness.analysis.published import Agreement, agreement

COLUMNS = ("color", "shape")
PAPER = {"a": 0.1, "b": 0.2, "c": 0.3, "d": 0.4}


class Stub(SimpleNamespace):
    """An analysis, known by its identity as the real one is."""

    __hash__ = object.__hash__


def study(
    scores: dict[str, float],
    *,
    noise: float = 0.0,
    prompts: int = 60,
    paper: dict[str, float] = PAPER,
    columns: tuple[str, ...] = COLUMNS,
    seed: int = 0,
) -> Any:
    """An analysis whose arms have the given mean scores, and a paper with the same value in every column."""
    rng = np.random.default_rng(seed)
    means: dict[tuple[str, str], dict[str, float | None]] = {}
    for arm, score in scores.items():
        for column in columns:
            values = score + noise * rng.standard_normal(prompts)
            means[arm, column] = {f"p{number:03d}": float(value) for number, value in enumerate(values)}

    def estimate(arm: str, column: str) -> Any:
        scored = [value for value in means[arm, column].values() if value is not None]
        return SimpleNamespace(mean=float(np.mean(scored)) if scored else None)

    return Stub(
        arms=tuple(scores),
        columns=columns,
        published={arm: dict.fromkeys(columns, value) for arm, value in paper.items()},
        estimate=estimate,
        means=lambda arm, column: means[arm, column],
        by_prompt=means,
    )


def found(analysis: Any) -> Agreement:
    whole = agreement(analysis)
    assert whole is not None
    return whole


def test_the_papers_order_has_rho_one_and_the_reverse_minus_one():
    same, reverse = found(study(PAPER)), found(study({arm: -score for arm, score in PAPER.items()}))
    assert (same.rho, same.interval.low, same.interval.high) == pytest.approx((1, 1, 1))
    assert (same.arms, same.alike, same.pairs) == (4, 6, 6)
    assert (reverse.rho, reverse.interval.low, reverse.interval.high) == pytest.approx((-1, -1, -1))
    assert (reverse.alike, reverse.pairs) == (0, 6)


def test_rho_is_spearmans_of_the_mean_scores_and_pairs_are_counted_by_hand():
    whole = found(study({"a": 0.2, "b": 0.1, "c": 0.4, "d": 0.3}))
    assert whole.rho == pytest.approx(spearmanr([2, 1, 4, 3], [1, 2, 3, 4]).statistic)
    assert (whole.alike, whole.pairs) == (4, 6)


def test_an_uncertain_order_has_a_wide_interval_that_narrows_with_prompts():
    scores = {"a": 0.10, "b": 0.11, "c": 0.12, "d": 0.13}
    few, many = found(study(scores, noise=0.3)), found(study(scores, noise=0.3, prompts=3_000))
    widths = [whole.interval.high - whole.interval.low for whole in (few, many)]
    assert widths[0] > 0.5 and widths[1] < 0.5 * widths[0]
    assert few.interval.low <= few.rho <= few.interval.high


def test_the_resampling_is_joint_so_what_all_arms_share_does_not_widen_the_interval():
    analysis = study(PAPER, prompts=30)
    hardness = np.random.default_rng(1).standard_normal(30) * 5
    for by_prompt in analysis.by_prompt.values():
        for number, prompt in enumerate(by_prompt):
            by_prompt[prompt] += hardness[number]
    whole = found(analysis)
    assert (whole.rho, whole.interval.low, whole.interval.high) == pytest.approx((1, 1, 1))


def test_equal_inputs_give_equal_intervals():
    scores = {"a": 0.1, "b": 0.15, "c": 0.1, "d": 0.2}
    assert found(study(scores, noise=0.2)) == found(study(scores, noise=0.2))


def test_only_arms_with_all_numbers_count():
    analysis = study({**PAPER, "e": 0.9})
    assert found(analysis).arms == 4, "e is not published"
    gap = study(PAPER)
    del gap.published["b"]["shape"]
    gap.by_prompt["d", "color"] = dict.fromkeys(gap.by_prompt["d", "color"])
    assert agreement(gap) is None, "two arms are too few"


def test_unscored_prompts_are_left_out_of_their_arm_alone():
    analysis = study(PAPER, noise=0.01)
    for prompt in list(analysis.by_prompt["a", "color"])[1:]:
        analysis.by_prompt["a", "color"][prompt] = None
    whole = found(analysis)
    assert whole.rho == pytest.approx(1) and whole.interval.high == pytest.approx(1)
    assert whole.interval.low is not None and not np.isnan(whole.interval.low)


@pytest.mark.parametrize(
    "analysis",
    [
        study({"a": 0.1, "b": 0.2}),
        study(dict.fromkeys(PAPER, 0.5)),
        study(PAPER, paper=dict.fromkeys(PAPER, 0.5)),
        study(PAPER, paper={}),
    ],
    ids=["two arms", "equal scores", "equal published", "nothing published"],
)
def test_without_an_order_there_is_no_agreement(analysis):
    assert agreement(analysis) is None


def test_one_prompt_has_a_correlation_and_no_interval():
    whole = found(study(PAPER, prompts=1))
    assert whole.rho == pytest.approx(1) and whole.interval.low is None
