"""Questions known by their content, and answers kept on disk."""

from __future__ import annotations

import threading

import pytest
from PIL import Image

from harness.experts.judge.cache import AnswerCache, ask_each_once
from harness.types import Answer, Question

RED, PLAIN = Image.new("RGB", (4, 4), "red"), {"kind": "semantic", "text": "one two"}


@pytest.mark.parametrize(
    "changes",
    [
        {"text": "one"},
        {"lead": 3},
        {"images": (RED,)},
        {"scored": False},
        {"attempt": 1},
        {"images": (RED, RED)},
    ],
)
def test_everything_a_model_sees_distinguishes_questions(changes):
    asked: list[Question] = []

    def answer(questions):
        asked.extend(questions)
        yield from ((place, Answer(text=str(place))) for place in range(len(questions)))

    questions = [Question(**PLAIN), Question(**PLAIN | changes), Question(**PLAIN, facts={"prompt": 3})]
    assert [given.text for given in ask_each_once(questions, "s", None, answer)] == ["0", "1", "0"]
    assert asked == questions[:2]


def test_images_differ_by_their_pixels_and_size():
    images = [Image.new("RGB", size, color) for size in ((4, 2), (2, 4)) for color in ("red", "blue")] + [
        Image.new("L", (8, 3))
    ]
    questions = [
        Question(**PLAIN, images=(image,)) for image in (*images, *[image.copy() for image in images])
    ]
    answers = ask_each_once(
        questions, "s", None, lambda asked: enumerate(Answer(text=str(place)) for place in range(len(asked)))
    )
    assert [answer.text for answer in answers] == ["0", "1", "2", "3", "4"] * 2


def test_an_answer_is_kept_before_the_next_one_comes(tmp_path):
    def killed(questions):
        yield 1, Answer(text="second")
        raise KeyboardInterrupt

    questions = [Question(kind="semantic", text=text) for text in ("a", "b")]
    with pytest.raises(KeyboardInterrupt):
        ask_each_once(questions, "s", AnswerCache(tmp_path), killed)
    left: list[str] = []

    def rest(asked):
        left.extend(question.text for question in asked)
        yield 0, Answer(text="first", expected=3.5, mass=0.9)

    cache = AnswerCache(tmp_path)
    assert [answer.text for answer in ask_each_once(questions, "s", cache, rest)] == ["first", "second"]
    assert left == ["a"] and (cache.hits, cache.misses) == (1, 1)
    assert ask_each_once(questions, "s", cache, rest)[0] == Answer(text="first", expected=3.5, mass=0.9)


def test_other_settings_have_other_answers(tmp_path):
    cache = AnswerCache(tmp_path)
    for settings in ("one", "two", "one"):
        (answer,) = ask_each_once(
            [Question(**PLAIN)], settings, cache, lambda _, settings=settings: [(0, Answer(text=settings))]
        )
        assert answer.text == settings
    assert cache.hits == 1


@pytest.mark.parametrize("content", ["", "{", "[]", '{"text": "x", "more": 1}'])
def test_a_damaged_answer_is_asked_for_again(tmp_path, content):
    cache = AnswerCache(tmp_path)
    cache.put("abcd", Answer(text="x"))
    (file,) = tmp_path.rglob("*.json")
    file.write_text(content)
    assert cache.get("abcd") is None
    cache.put("abcd", Answer(text="x"))
    assert cache.get("abcd") == Answer(text="x")


def test_many_may_write_the_same_answer(tmp_path):
    cache = AnswerCache(tmp_path)
    writers = [
        threading.Thread(target=lambda: [cache.put("abcd", Answer(text="x" * 5000)) for _ in range(50)])
        for _ in range(4)
    ]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        assert cache.get("abcd") in (None, Answer(text="x" * 5000))
    assert [file.name for file in tmp_path.rglob("*.*")] == ["abcd.json"]
