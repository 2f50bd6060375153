"""What the judged components share: their rubrics, and a batch of questions turned into scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from harness.experts.judge import rubric
from harness.experts.judge.answers import Reading, read_score
from harness.types import Answer, Question, Score

if TYPE_CHECKING:
    from harness.protocols import Judge

RUBRICS = Path(__file__).parent / "rubrics"
SCALE = 10.0  # the rubrics ask for 0..10, arXiv 2505.17022 section 3

Rubric = partial(rubric.Rubric, folder=RUBRICS)


def judge_scores(judge: Judge, questions: Sequence[Question]) -> list[Score]:
    """One score per question, in order: answers on 0..10 scaled to [0, 1].

    A judge's expected score counts where it gives one, else the score written in its text; the evidence says which. Unreadable
    text is asked for once more; then it is unscored, as is at once what a judge could not answer at all.
    """
    answers = _ask(judge, questions)
    readings = [_read(answer) for answer in answers]
    again = [
        row for row, reading in enumerate(readings) if reading.value is None and answers[row].failure is None
    ]
    for row, answer in zip(
        again, _ask(judge, [replace(questions[row], attempt=1) for row in again]), strict=True
    ):
        answers[row], readings[row] = answer, _read(answer)
    return [
        _score(question, answer, reading)
        for question, answer, reading in zip(questions, answers, readings, strict=True)
    ]


def _ask(judge: Judge, questions: Sequence[Question]) -> list[Answer]:
    answers = list(judge.ask(questions)) if questions else []
    if len(answers) != len(questions):
        raise ValueError(
            f"judge {type(judge).__name__} gave {len(answers)} answers to {len(questions)} questions: one each, in order"
        )
    return answers


def _read(answer: Answer) -> Reading:
    if answer.failure is not None:
        return Reading(None, answer.failure)
    if answer.expected is not None:
        return Reading(answer.expected)
    return read_score(answer.text, SCALE, answer.finish)


def _score(question: Question, answer: Answer, reading: Reading) -> Score:
    evidence: dict[str, str | float | None] = {"answer": answer.text}
    if answer.mass is not None:
        evidence["mass"] = round(answer.mass, 4)
    if reading.value is None:
        asked = "" if answer.failure is not None else ", asked twice"
        return Score(
            value=None, evidence=evidence, unscored=f"{question.kind} judge{asked}: {reading.unscored}"
        )
    return Score(
        value=reading.value / SCALE,
        evidence={**evidence, "score": "text" if answer.expected is None else "expected"},
    )
