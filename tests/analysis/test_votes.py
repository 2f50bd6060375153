from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from harness.analysis.contrasts import compare
from harness.analysis.statistics import sign_flip_p
from harness.analysis.votes import (
    PairVotes,
    exact_sign_flip_p,
    outcomes,
    read_pairs,
    sign_test_p,
    tally,
)
from harness.votes import VoteRow


def row(order: str, vote: str | None, *, prompt: str = "p", number: int = 0, judge: str = "j") -> VoteRow:
    return VoteRow(
        index=0,
        prompt_id=prompt,
        category="color",
        number=number,
        x="full",
        y="base",
        judge=judge,
        order=order,
        vote=vote,
        unscored=None if vote else "unreadable",
        answer=None,
        attempt=0,
    )


def pairs(*values: tuple[float | None, float | None], numbers: int = 1) -> list[PairVotes]:
    """Votes of prompts with so many numbers each."""
    found = []
    for index, (x_first, y_first) in enumerate(values):
        prompt, number = divmod(index, numbers)
        found.append(PairVotes(prompt_id=f"p{prompt}", number=number, x_first=x_first, y_first=y_first))
    return found


@pytest.mark.parametrize(
    ("votes", "values"),
    [
        (("x", "x"), (1.0, 0.0)),
        (("y", "y"), (0.0, 1.0)),
        (("x", "y"), (1.0, 1.0)),
        (("y", "x"), (0.0, 0.0)),
        (("tie", "x"), (0.5, 0.0)),
        (("x", None), (1.0, None)),
    ],
)
def test_the_value_of_a_vote_is_1_for_the_chain_shown_first(votes, values):
    (pair,) = read_pairs([row("yx", votes[1]), row("xy", votes[0])])
    assert (pair.x_first, pair.y_first) == values


def test_a_question_that_was_not_asked_leaves_its_pair_unscored():
    assert read_pairs([row("xy", "x")]) == [PairVotes(prompt_id="p", number=0, x_first=1.0, y_first=None)]
    assert outcomes(read_pairs([row("xy", "x")])) == {"p": None}


def test_votes_of_different_judges_are_not_mixed():
    with pytest.raises(ValueError, match="several judges"):
        read_pairs([row("xy", "x"), row("yx", "x", judge="other")])
    with pytest.raises(ValueError, match="two votes on p, number 0, order xy"):
        read_pairs([row("xy", "x"), row("xy", "x")])


def test_the_numbers_of_a_prompt_are_averaged_first():
    found = tally(pairs((1, 0), (0, 1), (1, 0), (1, 0), (1, 1), (None, 0), numbers=2))
    assert (found.prompts, found.unscored) == (3, ())
    assert found.win_rate == pytest.approx((0.5 + 1 + 0.5) / 3)
    assert found.lean == pytest.approx((0 + 0 + 1) / 3)
    assert found.consistency == pytest.approx((1 + 1 + 0) / 3)
    assert (found.wins, found.losses, found.both_first, found.both_second) == (1, 0, 1, 0)


def test_prompts_without_a_vote_are_listed_and_no_ties():
    found = tally(pairs((1, 0), (None, 1), (1, None), (None, None)))
    assert (found.prompts, found.unscored, found.win_rate) == (1, ("p1", "p2", "p3"), 1.0)
    assert found.interval.low is None
    nothing = tally(pairs((None, None)))
    assert (nothing.win_rate, nothing.p, nothing.lean, nothing.sign_test_p) == (None,) * 4


def test_exchanging_the_arms_mirrors_the_win_rate_alone():
    rng = np.random.default_rng(0)
    values = [tuple(rng.choice([0, 0.5, 1], 2)) for _ in range(60)]
    one, other = tally(pairs(*values)), tally(pairs(*[(b, a) for a, b in values]))
    assert other.win_rate == pytest.approx(1 - one.win_rate)
    assert (other.wins, other.losses) == (one.losses, one.wins)
    for name in ("p", "sign_test_p", "consistency", "lean", "lean_p", "both_first", "both_second"):
        assert getattr(other, name) == pytest.approx(getattr(one, name)), name
    assert (other.interval.low, other.interval.high) == pytest.approx(
        (1 - one.interval.high, 1 - one.interval.low)
    )


def test_the_published_votes_prefer_the_trained_model():
    """Table of arXiv 2505.17022: 79, 84, 71 and 69 of 100, all with p below 2e-4."""
    for won in (79, 84, 71, 69):
        found = tally(pairs(*[(1.0, 0.0)] * won, *[(0.0, 1.0)] * (100 - won)))
        assert found.p == pytest.approx(binomtest(won, 100).pvalue) and found.p < 2e-4
        assert found.sign_test_p == pytest.approx(found.p)
        assert found.interval.low > 0.5


@pytest.mark.parametrize("numbers", [1, 2, 3, 7])
def test_the_exact_test_is_the_enumeration_of_all_signs(numbers):
    rng = np.random.default_rng(numbers)
    for _ in range(20):
        values = rng.integers(-2 * numbers, 2 * numbers + 1, 12) / (2 * numbers)
        assert exact_sign_flip_p(values) == pytest.approx(sign_flip_p(values), abs=1e-12)


def test_the_exact_test_is_what_random_signs_estimate():
    values = np.random.default_rng(1).choice([-1, -0.5, 0, 0.5, 1], 200, p=[0.15, 0.2, 0.2, 0.2, 0.25])
    assert exact_sign_flip_p(values) == pytest.approx(sign_flip_p(values), abs=0.01)
    assert exact_sign_flip_p(np.zeros(5)) == 1 == exact_sign_flip_p(np.empty(0))
    assert sign_test_p(0, 0) == 1


def test_claims_compare_outcomes_as_they_compare_scores():
    votes = pairs(*[(1, 0)] * 8, *[(0, 1)] * 2)
    found = compare({"color": 2 * np.array([list(outcomes(votes).values())]) - 1})
    assert found.effect == pytest.approx(2 * tally(votes).win_rate - 1)
    assert found.p == pytest.approx(tally(votes).p)
