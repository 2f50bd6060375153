"""The rows of `votes.jsonl`: which of two arms' chains for a prompt a judge prefers.

`VoteRow` is the only reader and writer of these rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

Order = Literal["xy", "yx"]
Vote = Literal["x", "y", "tie"]
SHOWN = 80  # characters of an answer in a message
ORDERS: tuple[Order, Order] = ("xy", "yx")


@dataclass(frozen=True, kw_only=True)
class VoteRow:
    """A row of `votes.jsonl`: the answer of `judge` to one question about the chains of the arms `x` and `y`.

    `order` is `xy` where the chain of `x` was shown first, as A, and `yx` where that of `y` was. `vote` is
    None where the answer is no vote, and `unscored` says why. `answer` is the last text of the judge, and
    `attempt` counts the earlier ones.
    """

    index: int
    prompt_id: str
    category: str
    number: int
    x: str
    y: str
    judge: str
    order: Order
    vote: Vote | None
    unscored: str | None
    answer: str | None
    attempt: int

    def __post_init__(self) -> None:
        if (self.vote is None) != (self.unscored is not None):
            raise ValueError(f"a row has a vote or a reason why not, got {self.vote=} and {self.unscored=}")

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> VoteRow:
        """Return the row of a JSON object. Raises KeyError where a field is missing; ignores other fields."""
        return cls(**{field.name: row[field.name] for field in fields(cls)})


def unreadable(rows: Sequence[VoteRow]) -> str | None:
    """Return how many questions got no vote, for a reader; None if all did."""
    missing = [row for row in rows if row.vote is None]
    if not missing:
        return None
    first = missing[0]
    words = " ".join((first.answer or "").split())
    answer = repr(words if len(words) <= SHOWN else words[:SHOWN] + "...") if words else "none"
    return (
        f"{len(missing)} of {len(rows)} questions unreadable ({len(missing) / len(rows):.0%}): first answer"
        f" {answer} ({first.unscored}); unscored, not ties"
    )
