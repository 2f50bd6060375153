"""Votes of the miniature's judges from chains to the tally: what must come out whatever the chains are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from benchmarks.shapes.benchmark import Shapes
from benchmarks.shapes.oracle import OracleJudge
from benchmarks.shapes.simulated import PREFERENCE, SimulatedJudge
from harness.analysis.contrasts import compare
from harness.analysis.votes import Tally, exact_sign_flip_p, outcomes, read_pairs, tally
from harness.chain import parse
from harness.preference.pairs import pair_chains
from harness.preference.question import PreferenceQuestion
from harness.preference.vote import Ballot, ballots, vote
from harness.votes import VoteRow

ROOT = Path(__file__).resolve().parents[2]
CONFIG = yaml.safe_load((ROOT / "benchmarks" / "shapes.yaml").read_text())
DEFAULTS = {name: value for name, value in CONFIG["simulated"]["judge"].items() if name != "_target_"}
NO_ERRORS = dict.fromkeys(DEFAULTS, 0)
PROMPTS = 1200
GRADES = [name for name in DEFAULTS if name not in ("seed", *PREFERENCE)]


@pytest.fixture(scope="module")
def arms():
    """Chains of two arms for the same prompts; both contradict some prompts, the second more of them."""
    settings = {name: value for name, value in CONFIG.items() if name not in ("_target_", "unfaithful_share")}
    world = Shapes(**settings, unfaithful_share=0.3)
    better = [(record.prompt, parse(record.chain)) for record in world.records(seed=3, count=PROMPTS)]
    worse = []
    for index, (prompt, written) in enumerate(better):
        other = better[(index + 1) % PROMPTS][1]
        worse.append((prompt, (written, other, other, written)[index % 4]))
    return better, worse


def asked(x, y) -> list[Ballot]:
    return ballots(pair_chains("x", x, "y", y), PreferenceQuestion())


@pytest.fixture(scope="module")
def questions(arms) -> list[Ballot]:
    return asked(*arms)


@pytest.fixture(scope="module")
def exact(questions) -> list[VoteRow]:
    return vote(questions, OracleJudge(), "exact")


def counted(rows: list[VoteRow]) -> Tally:
    return tally(read_pairs(rows))


def simulated(**errors: float) -> SimulatedJudge:
    return SimulatedJudge(**{**NO_ERRORS, **errors})


def by_category(rows: list[VoteRow]) -> dict[str, list[VoteRow]]:
    found: dict[str, list[VoteRow]] = {}
    for row in rows:
        found.setdefault(row.category, []).append(row)
    return found


def test_the_exact_judge_is_consistent_and_blind_to_the_order(exact):
    found = counted(exact)
    assert (found.consistency, found.lean, found.lean_p, found.unscored) == (1, 0, 1, ())
    assert (found.both_first, found.both_second) == (0, 0)
    assert found.win_rate > 0.6 and found.p < 1e-6


def test_an_arm_against_itself_ties(arms):
    rows = vote(asked(arms[0], arms[0]), OracleJudge(), "exact")
    assert {row.vote for row in rows} == {"tie"}
    found = counted(rows)
    assert (found.win_rate, found.p, found.lean, found.wins, found.losses) == (0.5, 1, 0, 0, 0)


def test_a_judge_that_always_says_the_first_decides_nothing(questions):
    rows = vote(questions, simulated(preference_first=1), "first")
    differences = {}
    for category, some in by_category(rows).items():
        found = counted(some)
        assert (found.win_rate, found.lean, found.consistency, found.p) == (0.5, 1, 0, 1), category
        assert found.lean_p < 1e-6 and found.both_first == found.prompts
        differences[category] = 2 * np.array([list(outcomes(read_pairs(some)).values())]) - 1
    claim = compare(differences)
    assert (claim.effect, claim.p, claim.interval.low, claim.interval.high) == (0, 1, 0, 0)


def test_exchanging_the_arms_mirrors_the_win_rate_alone(questions, arms):
    errs = simulated(preference_first=0.2, preference_flip=0.1, preference_invalid=0.05)
    one, other = counted(vote(questions, errs, "j")), counted(vote(asked(*arms[::-1]), errs, "j"))
    assert other.win_rate == pytest.approx(1 - one.win_rate)
    assert (other.wins, other.losses, other.unscored) == (one.losses, one.wins, one.unscored)
    for name in ("p", "lean", "lean_p", "consistency", "sign_test_p", "both_first", "both_second"):
        assert getattr(other, name) == pytest.approx(getattr(one, name)), name


@pytest.mark.parametrize(("first", "flip"), [(0.2, 0.0), (0.1, 0.3), (0.5, 0.5)])
def test_the_simulated_judge_has_the_lean_and_the_win_rate_of_its_errors(questions, exact, first, flip):
    pairs = read_pairs(vote(questions, simulated(preference_first=first, preference_flip=flip), "j"))
    found, true = tally(pairs), counted(exact).win_rate
    leans = np.array([pair.x_first + pair.y_first - 1 for pair in pairs])
    won = np.array(list(outcomes(pairs).values()))
    expected = first / 2 + (1 - first) * ((1 - flip) * true + flip * (1 - true))
    assert abs(found.lean - first) <= 4 * leans.std() / PROMPTS**0.5
    assert abs(found.win_rate - expected) <= 4 * won.std() / PROMPTS**0.5


def test_so_many_answers_are_unreadable_also_when_asked_again(questions, exact):
    rows = vote(questions, simulated(preference_invalid=0.1), "j")
    missing = [row for row in rows if row.vote is None]
    assert abs(len(missing) / len(rows) - 0.1) < 4 * (0.09 / len(rows)) ** 0.5
    assert {row.attempt for row in missing} == {1} and {row.attempt for row in rows} == {0, 1}
    for row, true in zip(rows, exact, strict=True):
        assert row.vote in (true.vote, None)


def test_votes_repeat_whatever_the_batch_and_change_with_the_seed(questions):
    errors, some = {"preference_first": 0.3, "preference_flip": 0.3}, questions[:120]
    whole = vote(some, simulated(**errors), "j")
    assert [row for one in some for row in vote([one], simulated(**errors), "j")] == whole
    assert vote(some[::-1], simulated(**errors), "j")[::-1] == whole
    assert vote(some, simulated(seed=1, **errors), "j") != whole


def test_errors_in_grades_change_no_vote(questions):
    errors, some = {"preference_first": 0.3, "preference_flip": 0.3}, questions[:600]
    others = dict.fromkeys(GRADES, 0.5)
    assert vote(some, simulated(**errors, **others), "j") == vote(some, simulated(**errors), "j")


def test_both_orders_keep_a_judge_that_favors_the_first_from_rejecting_equal_arms():
    """400 studies of 100 prompts where both arms are as good and the judge says "the first" at 0.4."""
    rng, studies, prompts = np.random.default_rng(0), 400, 100
    x_is_better = rng.random((studies, prompts)) < 0.5
    says_first = rng.random((2, studies, prompts)) < 0.4
    x_first = np.where(says_first[0], 1.0, x_is_better)
    y_first = np.where(says_first[1], 1.0, ~x_is_better)
    both = np.array([exact_sign_flip_p(row) for row in x_first - y_first])
    one = np.array([exact_sign_flip_p(row) for row in 2 * x_first - 1])
    assert (both <= 0.05).mean() <= 0.05 + 3 * (0.05 * 0.95 / studies) ** 0.5
    assert (one <= 0.05).mean() > 0.9
