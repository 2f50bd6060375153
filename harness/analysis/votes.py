"""What votes between two arms come to: win rate, agreed wins, and how much the order of the chains decides.

Every pair of chains is judged in both orders. With the value of an answer 1 for the chain shown first, 0 for
the other and 1/2 for a tie, v1 is the value where x was shown first and v2 where y was. Then

- outcome = (v1 + 1 - v2) / 2 is how far x wins, from 0 to 1: a judge that always says "the first" gives 1/2;
- lean = v1 + v2 - 1 is how far the chain shown first wins, from -1 to 1: a judge blind to the order gives 0.

The unit is the prompt: the pairs of its several numbers are averaged first. A pair without a vote in one of
its orders is unscored.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from harness.analysis.statistics import Interval, bootstrap_interval
from harness.votes import VoteRow

_FOR_X = {"x": 1.0, "tie": 0.5, "y": 0.0}
MOST_PARTS = 5040  # of a vote's value of 1, when a prompt's numbers are averaged


@dataclass(frozen=True, kw_only=True)
class PairVotes:
    """The votes on the chains of one prompt and number: v1 and v2, None where there is no vote."""

    prompt_id: str
    number: int
    x_first: float | None
    y_first: float | None


@dataclass(frozen=True, kw_only=True)
class Tally:
    """The votes of one judge on two arms, over `prompts` prompts.

    `wins` and `losses` count the prompts that x wins or loses in both orders, and `sign_test_p` is the exact
    binomial test of them. `p` and `lean_p` are exact sign-flip tests of win rate 1/2 and of lean 0.
    `consistency` is the share of pairs on which both orders agree. `both_first` and `both_second` count the
    pairs where the chain shown first, or second, wins in both orders. All but the counts are None without a
    scored prompt; `unscored` lists the prompts without a score.
    """

    prompts: int
    unscored: tuple[str, ...]
    win_rate: float | None
    interval: Interval
    p: float | None
    wins: int
    losses: int
    sign_test_p: float | None
    consistency: float | None
    lean: float | None
    lean_interval: Interval
    lean_p: float | None
    both_first: int
    both_second: int


def read_pairs(rows: Iterable[VoteRow]) -> list[PairVotes]:
    """Return the votes of one judge on two arms by pair of chains, sorted by prompt and number.

    Raises:
        ValueError: the rows are of several judges or arms, or a question is there twice.
    """
    values: dict[tuple[str, int], dict[str, float | None]] = {}
    sources = set()
    for row in rows:
        sources.add((row.judge, row.x, row.y))
        orders = values.setdefault((row.prompt_id, row.number), {})
        if row.order in orders:
            raise ValueError(f"two votes on {row.prompt_id}, number {row.number}, order {row.order}")
        for_x = None if row.vote is None else _FOR_X[row.vote]
        orders[row.order] = for_x if row.order == "xy" or for_x is None else 1 - for_x
    if len(sources) > 1:
        raise ValueError(f"votes of several judges or pairs of arms: {sorted(sources)}")
    pairs = []
    for (prompt, number), orders in sorted(values.items()):
        pairs.append(
            PairVotes(prompt_id=prompt, number=number, x_first=orders.get("xy"), y_first=orders.get("yx"))
        )
    return pairs


def outcome(x_first: float, y_first: float) -> float:
    """Return how far x wins with the values v1 and v2, in [0, 1]."""
    return (x_first + 1 - y_first) / 2


def lean(x_first: float, y_first: float) -> float:
    """Return how far the chain shown first wins with the values v1 and v2, in [-1, 1]."""
    return x_first + y_first - 1


def outcomes(pairs: Sequence[PairVotes]) -> dict[str, float | None]:
    """Return the mean outcome of each prompt over its scored numbers, None where it has none.

    The outcomes of y are 1 minus these, so `harness.analysis.contrasts.compare` takes 2 * outcome - 1 as the
    difference of the arms.
    """
    found: dict[str, float | None] = {}
    for prompt, scored in _scored_by_prompt(pairs).items():
        found[prompt] = _mean([outcome(*values) for values in scored]) if scored else None
    return found


def tally(pairs: Sequence[PairVotes]) -> Tally:
    """Return the tally of the pairs of one judge and two arms."""
    by_prompt = _scored_by_prompt(pairs)
    unscored = tuple(prompt for prompt, found in by_prompt.items() if not found)
    scored = [found for found in by_prompt.values() if found]
    won = np.array([_mean([outcome(*values) for values in found]) for found in scored])
    leaned = np.array([_mean([lean(*values) for values in found]) for found in scored])
    consistent = [_mean([float(lean(*values) == 0) for values in found]) for found in scored]
    agreed = [sum(map(_agreed, found)) for found in scored]
    wins, losses = sum(won > 0 for won in agreed), sum(won < 0 for won in agreed)
    both = list(chain.from_iterable(scored))
    some = bool(scored)
    return Tally(
        prompts=len(scored),
        unscored=unscored,
        win_rate=float(won.mean()) if some else None,
        interval=bootstrap_interval(won),
        p=exact_sign_flip_p(2 * won - 1) if some else None,
        wins=wins,
        losses=losses,
        sign_test_p=sign_test_p(wins, losses) if some else None,
        consistency=_mean(consistent) if some else None,
        lean=float(leaned.mean()) if some else None,
        lean_interval=bootstrap_interval(leaned),
        lean_p=exact_sign_flip_p(leaned) if some else None,
        both_first=both.count((1.0, 1.0)),
        both_second=both.count((0.0, 0.0)),
    )


def sign_test_p(wins: int, losses: int) -> float:
    """Return the exact two-sided p of "wins and losses are equally likely"; 1 with neither."""
    from scipy.stats import binomtest  # a slow import, which planning does not need

    return float(binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0


def exact_sign_flip_p(values: np.ndarray) -> float:
    """Return the two-sided p of "the values (n,) are symmetric around 0", over all 2^n patterns of signs.

    The values are multiples of a common fraction, as means of votes are, so the distribution of their sum
    over all patterns is a convolution.
    """
    # Not harness.analysis.statistics.sign_flip_p: with more than 14 values it draws patterns at random.
    whole = _whole(values)
    magnitudes, reach = np.abs(whole), abs(int(whole.sum()))
    shares = np.ones(1)  # of the patterns, by (sum of all magnitudes - sum of the pattern) / 2
    for magnitude in magnitudes[magnitudes > 0]:
        longer = np.zeros(len(shares) + magnitude)
        longer[: len(shares)] += shares / 2
        longer[magnitude:] += shares / 2
        shares = longer
    sums = int(magnitudes.sum()) - 2 * np.arange(len(shares))
    return min(1.0, float(shares[np.abs(sums) >= reach].sum()))


def _whole(values: np.ndarray) -> np.ndarray:
    """The values as whole multiples of a common fraction; of 1/5040 where there is none up to it."""
    for denominator in range(2, MOST_PARTS + 1, 2):
        scaled = values * denominator
        if np.abs(scaled - np.rint(scaled)).max(initial=0.0) < 1e-6:
            break
    return np.rint(scaled).astype(int)


def _scored_by_prompt(pairs: Sequence[PairVotes]) -> dict[str, list[tuple[float, float]]]:
    """The values of the scored pairs of each prompt, [] where a prompt has none; prompts sorted by id."""
    found: dict[str, list[tuple[float, float]]] = {}
    for pair in sorted(pairs, key=lambda pair: (pair.prompt_id, pair.number)):
        scored = found.setdefault(pair.prompt_id, [])
        if pair.x_first is not None and pair.y_first is not None:
            scored.append((pair.x_first, pair.y_first))
    return found


def _agreed(values: tuple[float, float]) -> int:
    """1 where both orders are for x, -1 where both are for y, otherwise 0."""
    return int(outcome(*values) == 1) - int(outcome(*values) == 0)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
