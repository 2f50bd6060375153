"""Votes: every pair of chains is shown to a judge in both orders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from harness.experts.judge.choices import Choice, read_choice
from harness.plugin_values import one_each
from harness.preference.pairs import ChainPair
from harness.preference.question import PreferenceQuestion
from harness.types import Answer, Question
from harness.votes import ORDERS, Order, Vote, VoteRow

if TYPE_CHECKING:
    from harness.protocols import Judge


@dataclass(frozen=True, kw_only=True)
class Ballot:
    """One question about a pair; `index` is its place among all questions."""

    index: int
    pair: ChainPair
    order: Order
    question: Question
    ties: bool

    def vote_of(self, choice: Choice) -> Vote | None:
        """Return the arm that a choice is for."""
        if choice.value is None or choice.value == "tie":
            return choice.value
        return "x" if (choice.value == "A") == (self.order == "xy") else "y"


def ballots(pairs: Sequence[ChainPair], asked: PreferenceQuestion) -> list[Ballot]:
    """Return the questions about the pairs, in order: two for each, the first with the chain of `x` as A."""
    found: list[Ballot] = []
    for pair in pairs:
        for order in ORDERS:
            question = asked.of(pair, order)
            found.append(Ballot(index=len(found), pair=pair, order=order, question=question, ties=asked.ties))
    return found


def vote(chosen: Sequence[Ballot], judge: Judge, name: str) -> list[VoteRow]:
    """Return one row per ballot, in order. Any ballots can be asked, so a run may resume with the rest.

    After an unreadable text the judge is asked once more; a second one leaves the question unscored. A
    question that the judge could not answer at all is unscored at once.

    Args:
        chosen: some of the `ballots`.
        judge: answers them.
        name: the judge, for the rows.

    Raises:
        ValueError: the judge does not give one answer per question.
    """
    answers = _ask(judge, [ballot.question for ballot in chosen], name)
    choices = [_read(ballot, answer) for ballot, answer in zip(chosen, answers, strict=True)]
    again: dict[int, Question] = {}
    for place, (answer, choice) in enumerate(zip(answers, choices, strict=True)):
        if choice.value is None and answer.failure is None:
            again[place] = replace(chosen[place].question, attempt=1)
    for place, answer in zip(again, _ask(judge, list(again.values()), name), strict=True):
        answers[place], choices[place] = answer, _read(chosen[place], answer)
    rows = []
    for place, ballot in enumerate(chosen):
        rows.append(_row(ballot, name, answers[place], choices[place], attempt=int(place in again)))
    return rows


def _ask(judge: Judge, questions: Sequence[Question], name: str) -> list[Answer]:
    answers = judge.ask(questions) if questions else []
    return one_each(answers, len(questions), f"judge {name}", "answers", "question")


def _read(ballot: Ballot, answer: Answer) -> Choice:
    if answer.failure is not None:
        return Choice(None, answer.failure)
    return read_choice(answer.text, ties=ballot.ties, finish_reason=answer.finish)


def _row(ballot: Ballot, judge: str, answer: Answer, choice: Choice, *, attempt: int) -> VoteRow:
    asked = ", asked twice" if attempt and answer.failure is None else ""
    unscored = None if choice.value is not None else f"preference judge{asked}: {choice.unscored}"
    prompt = ballot.pair.prompt
    return VoteRow(
        index=ballot.index,
        prompt_id=prompt.id,
        category=prompt.category,
        number=prompt.number,
        x=ballot.pair.x,
        y=ballot.pair.y,
        judge=judge,
        order=ballot.order,
        vote=ballot.vote_of(choice),
        unscored=unscored,
        answer=answer.text,
        attempt=attempt,
    )
