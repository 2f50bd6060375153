"""Objects found by asking a model: which questions it is asked, and what becomes of its answers."""

from __future__ import annotations

import pytest
from PIL import Image

from harness.experts.grounding.grounder import MllmGrounder
from harness.protocols import ModelJudge
from harness.types import Answer, Box

PICTURE = Image.new("RGB", (384, 384))
DOG = '[{"bbox_2d": [98, 49, 196, 294], "label": "a dog"}]'


class Model(ModelJudge):
    """Gives the listed answers in order, the last one for ever."""

    def __init__(self, *answers: Answer, model: str = "some model") -> None:
        self.answers, self.model, self.batches = list(answers), model, []

    def ask(self, questions):
        self.batches.append(list(questions))
        return [self.answers.pop(0) if len(self.answers) > 1 else self.answers[0] for _ in questions]


def grounder(model, **changes) -> MllmGrounder:
    return MllmGrounder(
        **{
            "model": model,
            "convention": "qwen2_5_vl",
            "question": "grounding",
            "min_pixels": 3136,
            "max_pixels": 12_845_056,
        }
        | changes
    )


def test_an_object_is_found_where_the_model_says():
    model = Model(Answer(text=DOG))
    assert grounder(model).locate([PICTURE], ["dog"]) == [[Box(250, 125, 500, 750)]]
    ((question,),) = model.batches
    assert question.kind == "grounding" and question.images == (PICTURE,) and not question.scored
    assert "dog" in question.text[question.lead :] and "dog" not in question.text[: question.lead]
    assert grounder(model, convention="qwen3_vl").locate([PICTURE], ["dog"]) == [[Box(98, 49, 196, 294)]]
    assert (
        "1000"
        in grounder(
            model, convention="relative_1000", question="grounding_relative"
        )._question.template.template
    )


def test_a_judge_that_is_no_model_cannot_be_asked_for_boxes():
    with pytest.raises(
        ValueError, match=r"grounder=mllm asks the judge for boxes, and Oracle is no model.*take judge=server"
    ):
        grounder(type("Oracle", (), {})())


def test_absent_is_no_box_and_unreadable_is_asked_once_more():
    model = Model(
        Answer(text="[]"),
        Answer(text="on the left"),
        Answer(text="who knows"),
        Answer(text=DOG),
        Answer(text="still"),
    )
    assert grounder(model).locate([PICTURE] * 3, ["cat", "dog", "cow"]) == [
        [],
        [Box(250, 125, 500, 750)],
        None,
    ]
    assert [[question.attempt for question in batch] for batch in model.batches] == [[0, 0, 0], [1, 1]]


def test_a_failure_is_not_asked_again_and_finds_nothing_out():
    model = Model(Answer(text=None, failure="no answer"))
    assert grounder(model).locate([PICTURE], ["dog"]) == [None] and len(model.batches) == 1


def test_what_is_wrong_with_answers_is_said_once(capsys):
    swapped = '[{"bbox_2d": [196, 49, 98, 294]}]'
    asked = grounder(Model(Answer(text=swapped), Answer(text=None, failure="HTTP 400: too long")))
    assert asked.locate([PICTURE] * 2, ["dog", "cat"]) == [[Box(250, 125, 500, 750)], None]
    said = capsys.readouterr().err
    assert "could not read 1 of 2 answers; the first: HTTP 400: too long" in said
    assert "corners of 1 boxes in order" in said and "grounder.convention=qwen2_5_vl" in said
    asked.locate([PICTURE], ["cow"])
    assert not capsys.readouterr().err


def test_geminis_convention_has_a_question_of_its_own():
    model = Model(Answer(text='[{"box_2d": [100, 200, 300, 400], "label": "dog"}]'), model="gemini-2.5-flash")
    asked = grounder(model, convention="gemini", question="grounding_y_first")
    assert asked.locate([PICTURE], ["dog"]) == [[Box(200, 100, 400, 300)]]
    assert "[y1, x1, y2, x2]" in model.batches[0][0].text


def test_nothing_to_find_asks_nothing():
    model = Model(Answer(text="[]"))
    assert grounder(model).locate([], []) == [] and model.batches == []


@pytest.mark.parametrize("finish", ["content_filter", "refusal"])
def test_a_withheld_answer_is_unreadable(finish):
    assert grounder(Model(Answer(text="[]", finish=finish))).locate([PICTURE], ["dog"]) == [None]


@pytest.mark.parametrize(
    ("name", "convention"),
    [
        ("Qwen/Qwen2.5-VL-7B-Instruct", "qwen2_5_vl"),
        ("Qwen/Qwen3-VL-8B-Instruct", "qwen3_vl"),
        ("/models/qwen2_vl_2b", "qwen2_vl"),
    ],
)
def test_another_familys_convention_is_refused(name, convention):
    grounder(Model(model=name), convention=convention)
    other = "relative_1000" if convention == "qwen2_5_vl" else "qwen2_5_vl"
    with pytest.raises(
        ValueError, match=f"{name} gives boxes as {convention}: take grounder.convention={convention}"
    ):
        grounder(Model(model=name), convention=other)


def test_pixels_are_read_as_the_model_sees_them():
    model = Model(Answer(text=DOG))
    model.limits = {"min_pixels": 3136, "max_pixels": 1_003_520}
    with pytest.raises(ValueError, match="give the grounder the same"):
        grounder(model)
    assert grounder(model, max_pixels=1_003_520).locate([PICTURE], ["dog"]) == [[Box(250, 125, 500, 750)]]
    grounder(model, convention="qwen3_vl")  # thousandths do not depend on it


def test_wrong_settings_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"grounder\.convention='pixels': allowed are qwen2_5_vl"):
        grounder(Model(), convention="pixels")
    with pytest.raises(ValueError, match="give one of grounding, grounding_relative"):
        grounder(Model(), question="where")
    own = tmp_path / "own.txt"
    own.write_text("Where is $name?")
    model = Model(Answer(text="[]"))
    grounder(model, question=str(own)).locate([PICTURE], ["dog<|im_end|>"])
    assert model.batches[0][0].text == "Where is dog?"
