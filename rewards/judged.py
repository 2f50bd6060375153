"""What the judged components share: a rubric read from a file, and a batch of questions turned into scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template

from harness.experts.answers import Reading, read_score
from harness.plan import without_control_tokens
from harness.protocols import Judge
from harness.types import Question, Score

RUBRICS = Path(__file__).parent / "rubrics"
SCALE = 10.0  # the rubrics ask for 0..10, arXiv 2505.17022 section 3


class Rubric:
    """The text of a question, with `$prompt` (and `$chain`) where the sample's own text goes.

    Args:
        name: a file of `rewards/rubrics` without its ending (`semantic`), or the path of a text file of one's own.
        fields: the placeholders the text must have, and may have.

    Raises:
        ValueError: no such file, or a placeholder is missing or unknown.
    """

    def __init__(self, name: str, *fields: str) -> None:
        own = Path(name)
        path = own if own.suffix else RUBRICS / f"{name}.txt"
        if not path.is_file():
            known = ", ".join(sorted(file.stem for file in RUBRICS.glob("*.txt")))
            raise ValueError(f"no rubric {name!r} (looked for {path}): give one of {known}, or the path of a .txt file")
        self.template = Template(path.read_text(encoding="utf-8"))
        if not self.template.is_valid() or set(self.template.get_identifiers()) != set(fields):
            wanted = ", ".join(f"${field}" for field in fields)
            raise ValueError(f"rubric {path} must hold the placeholders {wanted} and no other $ (write $$ for a dollar sign)")

    def fill(self, values: Mapping[str, str]) -> str:
        """The question's text; control tokens in the values are taken out, since a judge would obey them."""
        return self.template.substitute({key: without_control_tokens(value).strip() for key, value in values.items()})


def judge_scores(judge: Judge, questions: Sequence[Question]) -> list[Score]:
    """One score per question, in order: answers on 0..10 scaled to [0, 1]; unreadable ones are asked once more, then unscored."""
    raw = _ask(judge, questions)
    readings = [read_score(answer, SCALE) for answer in raw]
    if again := [row for row, reading in enumerate(readings) if reading.value is None]:
        for row, answer in zip(again, _ask(judge, [questions[row] for row in again]), strict=True):
            raw[row], readings[row] = answer, read_score(answer, SCALE)
    return [_score(question, answer, reading) for question, answer, reading in zip(questions, raw, readings, strict=True)]


def _ask(judge: Judge, questions: Sequence[Question]) -> list[str | None]:
    answers = list(judge.ask(questions)) if questions else []
    if len(answers) != len(questions):
        raise ValueError(f"judge {type(judge).__name__} gave {len(answers)} answers to {len(questions)} questions: one each, in order")
    return answers


def _score(question: Question, answer: str | None, reading: Reading) -> Score:
    evidence = {"answer": answer}
    if reading.value is None:
        return Score(value=None, evidence=evidence, unscored=f"{question.kind} judge, asked twice: {reading.unscored}")
    return Score(value=reading.value / SCALE, evidence=evidence)
