"""The mean score from 0 to 10 under a model's own distribution, in place of the one score that it writes."""

from __future__ import annotations

from collections.abc import Mapping

SCORE_BY_TEXT = {str(score): score for score in range(11)}
PREFILL = '{"score": '  # the beginning of the answer; the next token is a digit
LEAST_MASS = 0.5  # with less probability on scores the model was about to write something else


def expected_score(
    first: Mapping[str, float], after_one: Mapping[str, float] | None
) -> tuple[float | None, float]:
    """The mean over 0..10, and the total probability of scores.

    Tokenizers that isolate digits write 10 as `1`, `0`; for them `after_one` distinguishes 1 from 10.

    Args:
        first: token -> probability at the position of the first digit, not renormalized.
        after_one: token -> probability after a `1`; None if a `1` is always the whole number.

    Returns:
        The mean and the probability; the mean is None if no token is a score.
    """
    scores = dict.fromkeys(range(11), 0.0)
    for token, probability in first.items():
        score = SCORE_BY_TEXT.get(token.strip())
        if score is not None:
            scores[score] += probability
    mass = sum(scores.values())
    if after_one is not None:
        ten = one = 0.0
        for token, probability in after_one.items():
            if token.strip() == "0":
                ten += probability
            elif token.strip()[:1] in ("}", ",", "."):
                one += probability
        share = ten / (ten + one) if ten + one > 0 else 0.0
        scores[10], scores[1] = scores[10] + scores[1] * share, scores[1] * (1 - share)
    if mass <= 0:
        return None, mass
    return sum(score * probability for score, probability in scores.items()) / mass, mass
