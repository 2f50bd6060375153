"""Shared code of the judged components: their rubrics, and scores from a batch of questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from harness.experts.judge import rubric
from harness.experts.judge.answers import Reading, broken_off, read_score
from harness.plugin_values import one_each
from harness.types import Answer, Question, Score

if TYPE_CHECKING:
    from harness.protocols import Judge

DATA_FILES = ("rubrics/*.txt",)  # count in the keys of stages
RUBRICS = Path(__file__).parent / "rubrics"
SCALE = 10.0  # the rubrics ask for 0..10, arXiv 2505.17022 section 3

Rubric = partial(rubric.Rubric, folder=RUBRICS)


def judge_scores(judge: Judge, questions: Sequence[Question]) -> list[Score]:
    """Return one score per question, in order: answers on 0..10, scaled to [0, 1].

    A judge's expected score counts if it gives one, otherwise the score in its text; the evidence says
    which. After an unreadable text the judge is asked once more; a second unreadable text leaves the
    sample unscored. A question that the judge could not answer at all is unscored at once.
    """
    answers = _ask(judge, questions)
    readings = [_read(answer) for answer in answers]
    unreadable = []
    for index, (answer, reading) in enumerate(zip(answers, readings, strict=True)):
        if reading.value is None and answer.failure is None:
            unreadable.append(index)
    repeated = [replace(questions[index], attempt=1) for index in unreadable]
    for index, answer in zip(unreadable, _ask(judge, repeated), strict=True):
        answers[index], readings[index] = answer, _read(answer)
    return [_score(*parts) for parts in zip(questions, answers, readings, strict=True)]


def _ask(judge: Judge, questions: Sequence[Question]) -> list[Answer]:
    answers = judge.ask(questions) if questions else []
    return one_each(answers, len(questions), f"judge {type(judge).__name__}", "answers", "question")


def _read(answer: Answer) -> Reading:
    if answer.failure is not None:
        return Reading(None, answer.failure)
    if answer.expected is not None and broken_off(answer.finish) is None:
        return Reading(answer.expected)
    return read_score(answer.text, SCALE, answer.finish)


def _score(question: Question, answer: Answer, reading: Reading) -> Score:
    evidence: dict[str, str | float | None] = {"answer": answer.text}
    if answer.mass is not None:
        evidence["mass"] = round(answer.mass, 4)
    if reading.value is None:
        asked = "" if answer.failure is not None else ", asked twice"
        reason = f"{question.kind} judge{asked}: {reading.unscored}"
        return Score(value=None, evidence=evidence, unscored=reason)
    evidence["score"] = "text" if answer.expected is None else "expected"
    return Score(value=reading.value / SCALE, evidence=evidence)
