"""What a preference study found, in sentences, and how its numbers are computed."""

from __future__ import annotations

from harness.analysis.preference import Pair, Preference
from harness.analysis.statistics import ALPHA, RESAMPLES
from harness.report.cells import p_text, signed, span

PREFERENCE_METHOD = (
    "Every judge sees every prompt with both chains, names, prose and boxes, in both orders, and never which"
    " arm wrote which. A first answer that is unreadable is asked for once more. A prompt without a vote in"
    " one of its orders is unscored, left out and counted; it is no tie.",
    "A vote for the chain that is shown first is 1, for the other 0, a tie 1/2: v1 where x is shown first, v2"
    " where y is. The outcome of x is (v1 + 1 − v2) / 2; a judge that always says the first gives 1/2. The"
    " share of the votes, or win rate, is the mean outcome over prompts; images of a prompt are averaged"
    " first. The difference of two arms is 2 · outcome − 1.",
    "The lean is the mean of v1 + v2 − 1: how much more often the chain shown first wins, 0 for a judge that"
    " the order does not matter to, 1 where it alone decides. Consistency is the share of pairs of chains on"
    " which both orders agree. p of win rate and lean are exact sign-flip tests; that of the wins and losses"
    " in both orders is an exact binomial (sign) test. None of these is corrected.",
    f"Intervals: percentile bootstrap over prompts, {RESAMPLES:,} resamples, 95%.",
    "Two judges agree where both put the same arm of a prompt above the other, or neither. Cohen's kappa"
    " collapses where one arm wins nearly always; Gwet's AC1 does not.",
)


def preference_sentences(preference: Preference | None) -> list[str]:
    """Return the sentences over the main table: who wins, then the lean and the consistency of every judge.

    Empty in other studies.
    """
    if preference is None:
        return []
    sentences = [_winner(preference, pair) for pair in preference.pairs]
    for judge in preference.judges:
        sentences.append(_lean(preference, judge))
        if missing := preference.unreadable(judge):
            sentences.append(f"Judge {judge}: {missing}.")
    return list(filter(None, sentences))


def _winner(preference: Preference, pair: Pair) -> str:
    found, (x, y) = preference.tally(preference.first, pair), pair
    if found.win_rate is None or found.p is None or found.sign_test_p is None:
        return f"The judge {preference.first} has no vote on {x} and {y}."
    return (
        f"By the judge {preference.first}, {x} wins {found.win_rate:.3f} ({span(found.interval)}, p"
        f" {p_text(found.p)}) of the votes against {y}. Both orders agree that it wins {found.wins} and loses"
        f" {found.losses} of {found.prompts} prompts (sign test p {p_text(found.sign_test_p)})."
    )


def _lean(preference: Preference, judge: str) -> str:
    found = preference.lean(judge)
    if found.lean is None or found.lean_p is None or found.consistency is None:
        return ""
    size = f"{signed(found.lean)}, {span(found.lean_interval, sign=True)}, p {p_text(found.lean_p)}"
    if found.lean_p < ALPHA:
        place = "first" if found.lean > 0 else "second"
        lean = f"The judge {judge} favors the chain it sees {place} ({size}); every pair is asked in both"
        lean += " orders, so this decides for no arm"
    else:
        lean = f"The judge {judge} shows no lean to the chain it sees first ({size})"
    return f"{lean}. Its two orders agree on {found.consistency:.0%} of the pairs."
