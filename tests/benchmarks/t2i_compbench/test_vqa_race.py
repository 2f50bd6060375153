"""The race of the ways to BLIP-VQA's answers: all come to the same, so that their times may be compared."""

from __future__ import annotations

from itertools import chain

import pytest
import torch

from benchmarks.t2i_compbench.races import vqa
from benchmarks.t2i_compbench.races.vqa import IMAGES, MOST, QUESTIONS, Work

torch.set_num_threads(1)


def test_every_way_gives_the_same_answers_to_the_same_questions():
    work = Work(5)
    found = {name: way() for name, way in work.ways().items()}
    assert list(found) == ["official", "image once", "blanks skipped", "ours"]
    ours = list(chain(*found["ours"]))
    assert len(ours) == sum(map(len, work.ids)) and max(ours) - min(ours) > 0.1
    for name, answers in found.items():
        real = [values[: len(few)] for values, few in zip(answers, work.ids, strict=True)]
        assert list(chain(*real)) == pytest.approx(ours, abs=1e-5), name
    assert all(len(values) == MOST for name in ("official", "image once") for values in found[name])


def test_the_race_asks_as_many_questions_as_the_prompts_have(monkeypatch):
    monkeypatch.setattr(vqa, "SIDE", 32)
    (race,) = vqa.vqa_race()
    mean = sum(count * prompts for count, prompts in QUESTIONS.items()) / sum(QUESTIONS.values())
    assert sum(QUESTIONS.values()) == 300 and race.counts["answers"] / race.amount == pytest.approx(
        mean, abs=0.1
    )
    assert (race.amount, race.unit, race.count_unit) == (IMAGES, "images", "answers")
    assert race.systems["ours"]()["answers"] > 0


def test_the_prompts_have_about_as_many_questions_as_the_race_says(data_dir):
    from benchmarks.t2i_compbench.language.rules import Rules
    from benchmarks.t2i_compbench.rules.questions import questions

    file = data_dir / "t2i_compbench" / "complex_val.txt"
    if not file.is_file():
        pytest.skip(f"there is no {file}")
    counts = [
        len(questions(Rules().chunks(text), mode="official"))
        for text in file.read_text(encoding="utf-8").splitlines()
    ]
    mean = sum(count * prompts for count, prompts in QUESTIONS.items()) / sum(QUESTIONS.values())
    assert len(counts) == 300 and sum(counts) / len(counts) == pytest.approx(mean, abs=0.3)
