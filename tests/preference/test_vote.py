from __future__ import annotations

import pytest

from harness.chain import parse
from harness.files import read_rows, write_rows
from harness.preference.pairs import ChainPair
from harness.preference.question import PreferenceQuestion
from harness.preference.vote import ballots, vote
from harness.types import Answer, Prompt, Question
from harness.votes import VoteRow, unreadable


class Judge:
    """Answers by the descriptions that it sees, or gives the listed answers; remembers the questions."""

    def __init__(self, *answers: str | Answer) -> None:
        self.answers = list(answers)
        self.batches: list[list[Question]] = []

    def ask(self, questions):
        self.batches.append(list(questions))
        if self.answers:
            given = [self.answers.pop(0) for _ in questions]
            return [one if isinstance(one, Answer) else Answer(text=one) for one in given]
        return [Answer(text=f"Selected Caption: {self.longer(question)}") for question in questions]

    def longer(self, question: Question) -> str:
        first, second = (len(question.facts[name].text) for name in ("first", "second"))
        return "A" if first > second else "B" if second > first else "tie"


def pairs(*chains: tuple[str, str]) -> list[ChainPair]:
    found = []
    for index, (x, y) in enumerate(chains):
        prompt = Prompt(id=f"p{index}", text="a cat", category="color", number=index)
        found.append(ChainPair(prompt=prompt, x="full", y="base", chain_x=parse(x), chain_y=parse(y)))
    return found


def asked(*chains: tuple[str, str], ties: bool = True):
    return ballots(pairs(*chains), PreferenceQuestion(ties=ties))


def test_every_pair_is_asked_in_both_orders_and_votes_are_for_arms():
    judge = Judge()
    rows = vote(asked(("A long cat.", "A cat."), ("A cat.", "A cat."), ("", "A cat.")), judge, "longest")
    assert [(row.index, row.prompt_id, row.number, row.order, row.vote) for row in rows] == [
        (0, "p0", 0, "xy", "x"),
        (1, "p0", 0, "yx", "x"),
        (2, "p1", 1, "xy", "tie"),
        (3, "p1", 1, "yx", "tie"),
        (4, "p2", 2, "xy", "y"),
        (5, "p2", 2, "yx", "y"),
    ]
    assert rows[1].answer == "Selected Caption: B" and rows[1].judge == "longest"
    assert len(judge.batches) == 1


def test_an_unreadable_answer_is_asked_once_more():
    judge = Judge("Selected: A", "well", "Selected: B")
    rows = vote(asked(("X", "Y")), judge, "j")
    assert [(row.vote, row.attempt, row.unscored) for row in rows] == [("x", 0, None), ("x", 1, None)]
    assert [question.attempt for batch in judge.batches for question in batch] == [0, 0, 1]
    assert judge.batches[1][0].text == judge.batches[0][1].text


def test_a_second_unreadable_answer_leaves_the_question_unscored():
    rows = vote(asked(("X", "Y")), Judge("well", "A", "hm"), "j")
    assert (rows[0].vote, rows[0].attempt, rows[0].answer) == (None, 1, "hm")
    assert rows[0].unscored == "preference judge, asked twice: the answer holds no choice"
    assert rows[1].vote == "y"


def test_a_failure_is_not_asked_again():
    judge = Judge(Answer(text=None, failure="no answer from the server: gone"), "A")
    rows = vote(asked(("X", "Y")), judge, "j")
    assert rows[0].unscored == "preference judge: no answer from the server: gone"
    assert (rows[0].attempt, len(judge.batches)) == (0, 1)


def test_a_cut_or_refused_answer_is_asked_once_more():
    judge = Judge(
        Answer(text="Selected: A", finish="length"), Answer(text="no", finish="refusal"), "A", "tie"
    )
    assert [row.vote for row in vote(asked(("X", "Y")), judge, "j")] == ["x", "tie"]


def test_a_tie_is_no_vote_where_the_question_allows_none():
    rows = vote(asked(("X", "Y"), ties=False), Judge("tie", "tie", "A", "tie"), "j")
    assert (rows[0].vote, rows[1].vote) == ("x", None)
    assert "the question allows none" in rows[1].unscored


def test_any_questions_can_be_asked_alone():
    all_of_them = asked(("A long cat.", "A cat."), ("", "A cat."))
    whole = vote(all_of_them, Judge(), "j")
    assert vote(all_of_them[3:], Judge(), "j") + vote(all_of_them[:3], Judge(), "j") == whole[3:] + whole[:3]
    assert vote([], Judge(), "j") == []


def test_rows_are_written_and_read_back(tmp_path):
    rows = vote(asked(("X", "Y")), Judge("A", "hm", "hm"), "j")
    write_rows(tmp_path / "votes.jsonl", [row.to_json() for row in rows])
    read = read_rows(tmp_path / "votes.jsonl")
    assert [VoteRow.from_json(row) for row in read] == rows
    names = "index prompt_id category number x y judge order vote unscored answer attempt"
    assert list(read[0]) == names.split()
    with pytest.raises(ValueError, match="a vote or a reason"):
        VoteRow.from_json({**read[0], "vote": None})


def test_questions_without_a_vote_are_counted_and_no_ties():
    rows = vote(asked(*[("X", "Y")] * 5), Judge(*["A"] * 9, "either\nway", "I like " + "both " * 30), "j")
    message = unreadable(rows)
    assert message is not None and message.startswith(
        "1 of 10 questions unreadable (10%): first answer 'I like"
    )
    assert "...' (preference judge, asked twice: the answer holds no choice); unscored, not ties" in message
    assert unreadable(rows[:9]) is None


def test_a_judge_must_give_one_answer_per_question():
    class Mute:
        def ask(self, questions):
            return []

    with pytest.raises(ValueError, match="judge mute gave 0 answers to 2 questions"):
        vote(asked(("X", "Y")), Mute(), "mute")
