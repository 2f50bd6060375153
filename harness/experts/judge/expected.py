"""The mean score from 0 to 10 under a model's own distribution, instead of the one score that it writes."""

from __future__ import annotations

from collections.abc import Mapping

PREFILL = '{"score": '  # how the answer begins; the next token is a digit
LEAST_MASS = 0.5  # probability on scores below which the model was going to write something else


def expected_score(
    first: Mapping[str, float], after_one: Mapping[str, float] | None
) -> tuple[float | None, float]:
    """The mean over 0..10 and the probability that was on scores at all.

    Tokenizers that isolate digits write 10 as `1`, `0`; for those `after_one` tells 1 from 10.

    Args:
        first: token -> probability at the place of the first digit, before any renormalising.
        after_one: token -> probability after a `1`; None where a `1` is whole.

    Returns:
        None as the mean where there is no score among the tokens.
    """
    scores = dict.fromkeys(range(11), 0.0)
    for token, probability in first.items():
        written = token.strip()
        if (
            written.isascii()
            and written.isdigit()
            and len(written) <= 2
            and int(written) <= 10
            and written == str(int(written))
        ):
            scores[int(written)] += probability
    mass = sum(scores.values())
    if after_one is not None:
        ten = sum(probability for token, probability in after_one.items() if token.strip() == "0")
        one = sum(
            probability for token, probability in after_one.items() if token.strip()[:1] in ("}", ",", ".")
        )
        share = ten / (ten + one) if ten + one > 0 else 0.0
        scores[10], scores[1] = scores[10] + scores[1] * share, scores[1] * (1 - share)
    return (
        sum(score * probability for score, probability in scores.items()) / mass if mass > 0 else None
    ), mass
