from __future__ import annotations

import numpy as np
import pytest

from harness.analysis.verdicts import ac1, kappa, verdict_agreement


def by_prompt(*outcomes: float | None) -> dict[str, float | None]:
    return {f"p{index}": outcome for index, outcome in enumerate(outcomes)}


def test_verdicts_are_outcomes_above_at_and_below_one_half():
    found = verdict_agreement(by_prompt(1, 0.75, 0.5, 0.25, 0), by_prompt(0.6, 0.5, 1 / 2, 0, 1))
    assert found.table == ((1, 1, 0), (0, 1, 0), (1, 0, 1))
    assert found.agreement == pytest.approx(3 / 5)


def test_only_prompts_that_both_have_scored_count():
    found = verdict_agreement(by_prompt(1, None, 0), by_prompt(1, 1, None, 1))
    assert (found.prompts, found.agreement) == (1, 1.0)
    assert found.kappa_interval.low is None
    nothing = verdict_agreement({}, by_prompt(1))
    assert (nothing.prompts, nothing.agreement, nothing.kappa, nothing.ac1) == (0, None, None, None)


def test_kappa_collapses_where_one_arm_wins_nearly_always_and_ac1_does_not():
    first = by_prompt(*[1] * 94, *[0] * 6)
    second = by_prompt(*[1] * 90, *[0] * 4, *[1] * 6)
    found = verdict_agreement(first, second)
    assert found.agreement == pytest.approx(0.90)
    assert found.kappa < 0 and found.ac1 > 0.85
    assert found.ac1_interval.low < found.ac1 < found.ac1_interval.high


def test_judges_who_always_agree_have_no_kappa_where_they_say_one_thing():
    found = verdict_agreement(by_prompt(1, 1, 1), by_prompt(1, 1, 1))
    assert (found.kappa, found.ac1) == (None, 1.0)
    assert found.kappa_interval.low is None
    assert (found.ac1_interval.low, found.ac1_interval.high) == (1.0, 1.0)


def test_judges_who_ignore_each_other_agree_by_chance():
    rng = np.random.default_rng(0)
    tables = rng.multinomial(4000, np.outer([0.5, 0.2, 0.3], [0.3, 0.3, 0.4]).ravel(), 50).reshape(-1, 3, 3)
    assert np.abs(kappa(tables)).max() < 0.06
    assert ac1(np.full((3, 3), 7)) == pytest.approx(0)


def test_the_interval_covers_the_true_agreement():
    truth = np.array([[0.5, 0.05, 0.05], [0.05, 0.1, 0.05], [0.05, 0.05, 0.1]])
    rng, covered = np.random.default_rng(3), 0
    outcome = (1.0, 0.5, 0.0)
    for _ in range(60):
        cells = rng.choice(9, 200, p=truth.ravel())
        found = verdict_agreement(
            by_prompt(*[outcome[cell // 3] for cell in cells]),
            by_prompt(*[outcome[cell % 3] for cell in cells]),
        )
        covered += found.kappa_interval.low <= kappa(truth) <= found.kappa_interval.high
    assert covered >= 51  # 57 expected; 51 is 3.5 standard errors below
