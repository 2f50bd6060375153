"""What votes cost: an estimate before a judge is asked, and the counts after."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.experts.judge.usage import Price, Usage
from harness.preference.vote import Ballot
from harness.types import Question
from harness.votes import VoteRow

CHARACTERS = 4  # per token
PIXELS = 28 * 28  # per token of an image


@dataclass(frozen=True, kw_only=True)
class Cost:
    """The cost of questions to one judge; `retries` are asked in addition to `questions`.

    `tokens_in` and `tokens_out` are None where nobody counts them, and `money` is None without a price. As
    text it is a line for a log.
    """

    questions: int
    retries: int
    tokens_in: int | None
    tokens_out: int | None
    money: float | None

    def __str__(self) -> str:
        parts = [f"{self.questions:,} questions"]
        if self.tokens_in is not None and self.tokens_out is not None:
            parts.append(f"{self.tokens_in:,} tokens in, {self.tokens_out:,} tokens out")
        if self.money is not None:
            parts.append(f"{self.money:.2f} by judge.serving.price")
        return ", ".join(parts)


def estimate(ballots: Sequence[Ballot], *, max_tokens: int | None, price: Price | None) -> Cost:
    """Return the most that the ballots should cost if every answer is readable; unreadable ones double it.

    Args:
        ballots: the questions.
        max_tokens: the length limit of an answer, which every answer is assumed to reach; None for a judge
            that counts no tokens.
        price: of a million tokens.
    """
    if max_tokens is None:
        return Cost(questions=len(ballots), retries=0, tokens_in=None, tokens_out=None, money=None)
    tokens_in = sum(_tokens(ballot.question) for ballot in ballots)
    tokens_out = len(ballots) * max_tokens
    money = None if price is None else price.of(tokens_in, tokens_out)
    return Cost(questions=len(ballots), retries=0, tokens_in=tokens_in, tokens_out=tokens_out, money=money)


def spent(rows: Sequence[VoteRow], usage: Usage | None, price: Price | None) -> Cost:
    """Return what rows have cost.

    Args:
        rows: the votes.
        usage: what the judge's server counted for them. Tokens are None where it counted some requests
            only, or None at all.
        price: of a million tokens.
    """
    counted = usage is not None and usage.counted == usage.requests
    tokens_in, tokens_out = (usage.tokens_in, usage.tokens_out) if usage and counted else (None, None)
    money = None
    if price is not None and tokens_in is not None and tokens_out is not None:
        money = price.of(tokens_in, tokens_out)
    return Cost(
        questions=len(rows),
        retries=sum(row.attempt for row in rows),
        tokens_in=tokens_in,
        tokens_out=tokens_out,
        money=money,
    )


def _tokens(question: Question) -> int:
    pixels = sum(image.width * image.height for image in question.images)
    return round(len(question.text) / CHARACTERS + pixels / PIXELS)
