from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from PIL import Image
from scipy.stats import kendalltau

from benchmarks.shapes.benchmark import Shapes
from benchmarks.shapes.detector import ShapesDetector
from benchmarks.shapes.oracle import OracleGrounder, OracleJudge
from benchmarks.shapes.render import render
from benchmarks.shapes.scene import SMALL, Scene, SceneObject
from benchmarks.shapes.scoring import shown
from benchmarks.shapes.simulated import PREFERENCE, SimulatedJudge
from benchmarks.shapes.simulated_vision import SimulatedGrounder, SimulatedSimilarity
from harness.chain import parse
from harness.types import Prompt, Question

ROOT = Path(__file__).resolve().parents[3]
CONFIG = yaml.safe_load((ROOT / "benchmarks" / "shapes.yaml").read_text())
DEFAULTS = {name: value for name, value in CONFIG["simulated"]["judge"].items() if name != "_target_"}
NO_ERRORS = dict.fromkeys(DEFAULTS, 0)
BLANK = Image.new("RGB", (24, 24), "white")
KINDS = ("semantic", "drawn", "written", "prompt_image")
LEFT = "a red circle on the left of a blue square"


def judge(**changes) -> SimulatedJudge:
    return SimulatedJudge(**{**NO_ERRORS, **changes})


@pytest.fixture(scope="module")
def records():
    """Records of which a half contradict their prompts."""
    settings = {name: value for name, value in CONFIG.items() if name not in ("_target_", "unfaithful_share")}
    return list(Shapes(**settings, unfaithful_share=0.5).records(seed=3, count=400))


def question(record, kind: str) -> Question:
    chain = parse(record.chain)
    facts = {"prompt": record.prompt, "chain": chain}
    if kind == "prompt_image":
        return Question(kind=kind, text="?", images=(record.image,), facts={"prompt": record.prompt})
    if kind == "semantic":
        return Question(kind=kind, text="?", facts=facts)
    return Question(kind="spatial", text="?", images=(BLANK,) if kind == "drawn" else (), facts=facts)


def grades(judge, records, kind: str) -> list[int]:
    answers = judge.ask([question(record, kind) for record in records])
    return [json.loads(answer.text)["score"] for answer in answers]


def tau(judge, records, kind: str) -> float:
    found = kendalltau(grades(judge, records, kind), grades(OracleJudge(), records, kind)).statistic
    return float(found)


def reversible(records):
    return [
        record
        for record in records
        if (record.prompt.facts["relation"] or {}).get("word", "next to") != "next to"
    ]


def two_objects(*places: tuple[str, str, int]) -> Image.Image:
    """An image of objects, each a color, a shape and a column."""
    return render(
        Scene(
            objects=tuple(
                SceneObject(shape=shape, color=color, texture="plain", cells=SMALL, column=column, row=2)
                for color, shape, column in places
            )
        )
    )


def test_without_errors_it_answers_as_the_exact_judge_to_the_byte(records):
    questions = [question(record, kind) for record in records for kind in KINDS]
    assert judge().ask(questions) == OracleJudge().ask(questions)
    assert judge(picture_attributes=1, chain_share=1, chain_spread=9).ask(questions) != OracleJudge().ask(
        questions
    )


def test_answers_depend_neither_on_the_batch_nor_on_the_order_but_on_the_seed(records):
    questions = [question(record, kind) for record in records[:60] for kind in KINDS]
    one = SimulatedJudge(**DEFAULTS)
    whole = one.ask(questions)
    assert [answer for each in questions for answer in one.ask([each])] == whole
    assert SimulatedJudge(**DEFAULTS).ask(questions[::-1])[::-1] == whole
    assert SimulatedJudge(**{**DEFAULTS, "seed": 1}).ask(questions) != whole


@pytest.mark.parametrize("rate", [0.0, 0.3, 1.0])
def test_so_many_objects_are_misread_each_in_one_attribute(records, rate):
    errs, misread, total = judge(picture_attributes=rate), 0, 0
    for record, seen in zip(records, ShapesDetector().detect([one.image for one in records]), strict=True):
        answer = json.loads(errs.ask([question(record, "prompt_image")])[0].text)
        read = answer["description"].removeprefix("The picture shows ").removesuffix(".").split(", ")
        for thing, label in zip(seen, read, strict=True):
            was, becomes = shown(thing.label), shown(label.removeprefix("a "))
            changed = len(set(was.stated()) - set(becomes.stated()))
            assert changed <= 1
            misread, total = misread + changed, total + 1
    assert abs(misread / total - rate) < 4 * (rate * (1 - rate) / total) ** 0.5 + 1e-9


@pytest.mark.parametrize(
    ("kind", "setting"),
    [("prompt_image", "picture_relations"), ("drawn", "drawn_reversed"), ("written", "written_reversed")],
)
def test_so_many_relations_are_read_reversed(records, kind, setting):
    clear = [one for one in reversible(records) if one.faithful]
    exact, always = grades(judge(), clear, kind), grades(judge(**{setting: 1}), clear, kind)
    assert len(clear) > 60 and all(after <= 5 < before for before, after in zip(exact, always, strict=True))
    some = grades(judge(**{setting: 0.4}), clear, kind)
    assert set(zip(exact, some, strict=True)) <= set(zip(exact, exact, strict=True)) | set(
        zip(exact, always, strict=True)
    )
    changed = sum(a != b for a, b in zip(exact, some, strict=True))
    assert abs(changed / len(clear) - 0.4) < 4 * (0.24 / len(clear)) ** 0.5


def test_a_reason_names_the_relation_of_the_prompt_also_where_it_is_read_reversed(records):
    clear = [one for one in reversible(records) if one.faithful]
    for record in clear[:30]:
        for kind, setting in (("prompt_image", "picture_relations"), ("drawn", "drawn_reversed")):
            reasoning = json.loads(judge(**{setting: 1}).ask([question(record, kind)])[0].text)["reasoning"]
            assert f"'{record.prompt.facts['relation']['word']}' does not" in reasoning


def test_a_layout_is_read_worse_in_coordinates_than_in_a_drawing(records):
    usual = SimulatedJudge(**DEFAULTS)
    assert tau(usual, records, "written") < tau(usual, records, "drawn") < 1


def test_leniency_adds_grades_and_no_grade_leaves_the_scale(records):
    exact, lenient = (
        grades(judge(), records, "prompt_image"),
        grades(judge(picture_leniency=2), records, "prompt_image"),
    )
    assert lenient == [min(grade + 2, 10) for grade in exact]
    wild = judge(picture_spread=20, chain_share=1, chain_spread=20)
    for kind in KINDS:
        assert {0, 10} <= set(grades(wild, records, kind)) <= set(range(11))


def test_the_noise_of_an_image_has_the_stated_spread(records):
    exact = grades(judge(), records, "prompt_image")
    inside = [
        (a, b)
        for a, b in zip(exact, grades(judge(picture_spread=1), records, "prompt_image"), strict=True)
        if 3 < a < 7
    ]
    variance = sum((a - b) ** 2 for a, b in inside) / len(inside)
    assert len(inside) > 30 and 0.5 < variance < 1.9  # 1 and a twelfth from rounding


def test_chains_are_misgraded_as_often_and_as_far_as_stated(records):
    for kind in ("semantic", "drawn", "written"):
        exact, errs = (
            grades(judge(), records, kind),
            grades(judge(chain_share=0.3, chain_spread=4), records, kind),
        )
        moves = [abs(a - b) for a, b in zip(exact, errs, strict=True)]
        assert max(moves) == 4
        assert 0.05 < sum(move > 0 for move in moves) / len(moves) <= 0.37  # the top grade cannot rise


def test_a_blind_judge_agrees_by_chance(records):
    blind = judge(picture_spread=1e4, chain_share=1, chain_spread=1e4)
    for kind in KINDS:
        assert abs(tau(blind, records, kind)) < 0.15


def test_errors_in_votes_change_no_grade(records):
    questions = [question(record, kind) for record in records[:100] for kind in KINDS]
    other = SimulatedJudge(**DEFAULTS | dict.fromkeys(PREFERENCE, 0.7))
    assert other.ask(questions) == SimulatedJudge(**DEFAULTS).ask(questions)
    assert other.label == SimulatedJudge(**DEFAULTS).label


def test_what_it_cannot_judge_has_no_answer():
    typed = Prompt(id="typed", text="a cat", category="color")
    asked = [Question(kind="prompt_image", text="?", images=(BLANK,), facts={"prompt": typed})]
    assert SimulatedJudge(**DEFAULTS).ask(asked)[0].failure


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"picture_attributes": 1.2}, r"judge\.picture_attributes=1\.2: give a share from 0 to 1"),
        ({"written_reversed": -0.1}, r"judge\.written_reversed=-0\.1: give a share from 0 to 1"),
        ({"picture_spread": -1}, r"judge\.picture_spread=-1: give a number from 0"),
        ({"chain_spread": -1}, r"judge\.chain_spread=-1: give a number from 0"),
        ({"picture_leniency": float("nan")}, r"judge\.picture_leniency=nan: give a number"),
        ({"preference_first": 1.5}, r"judge\.preference_first=1\.5: give a share from 0 to 1"),
        ({"preference_flip": -1}, r"judge\.preference_flip=-1: give a share from 0 to 1"),
        ({"preference_invalid": "a"}, r"judge\.preference_invalid='a': give a share from 0 to 1"),
        ({"seed": 0.5}, r"judge\.seed=0\.5: give a whole number from 0"),
    ],
)
def test_wrong_settings_of_the_judge_say_what_is_allowed(changes, message):
    with pytest.raises(ValueError, match=message):
        judge(**changes)


def test_a_bag_of_words_is_blind_to_binding_relation_and_count():
    asked, bag = [LEFT] * 5, SimulatedSimilarity(seed=0, spread=0)
    images = [
        two_objects(("red", "circle", 0), ("blue", "square", 4)),
        two_objects(("red", "circle", 4), ("blue", "square", 0)),
        two_objects(("blue", "circle", 0), ("red", "square", 4)),
        two_objects(("red", "circle", 0), ("green", "square", 4)),
        two_objects(("red", "circle", 0), ("red", "circle", 4)),
    ]
    assert bag.similarity(images, asked) == pytest.approx([1, 1, 1, 3 / 4, 1 / 2])
    assert bag.similarity(images[:1], ["a cat"]) == [None]


def test_the_noise_of_a_similarity_has_the_stated_spread_whatever_the_batch(records):
    images, texts = [one.image for one in records], [one.prompt.text for one in records]
    exact, noisy = SimulatedSimilarity(seed=0, spread=0), SimulatedSimilarity(seed=0, spread=0.5)
    values = noisy.similarity(images, texts)
    moves = [a - b for a, b in zip(values, exact.similarity(images, texts), strict=True)]
    assert 0.4 < (sum(move**2 for move in moves) / len(moves)) ** 0.5 < 0.6
    assert noisy.similarity(images[::-1], texts[::-1])[::-1] == values


def test_the_grounder_finds_by_the_noun():
    image = two_objects(("red", "circle", 0), ("blue", "square", 4))
    circle, square = (box for (box,) in OracleGrounder().locate([image] * 2, ["circle", "square"]))
    names = ["red circle", "a blue striped circle", "round tile", "red tile", "red", "tulip", ""]
    found = SimulatedGrounder(seed=0, jitter=0).locate([image] * len(names), names)
    assert found[:3] == [[circle]] * 3
    assert sorted(found[3], key=lambda box: box.x1) == [circle, square]
    assert found[4:] == [[], [], []]


def test_boxes_jitter_alike_in_every_batch_and_stay_on_the_canvas(records):
    images, names = [one.image for one in records], [parse(one.chain).objects[0].name for one in records]
    shaken = SimulatedGrounder(seed=0, jitter=0.2)
    found = shaken.locate(images, names)
    still = SimulatedGrounder(seed=0, jitter=0).locate(images, names)
    moves = [
        (a.x1 - b.x1) / (b.x2 - b.x1)
        for some, others in zip(found, still, strict=True)
        for a, b in zip(some, others, strict=True)
        if b.x1 > 400
    ]
    assert 0.15 < (sum(move**2 for move in moves) / len(moves)) ** 0.5 < 0.25
    assert shaken.locate(images[::-1], names[::-1])[::-1] == found


def test_wrong_settings_of_the_others_say_what_is_allowed():
    with pytest.raises(ValueError, match=r"similarity\.spread=-1: give a number from 0"):
        SimulatedSimilarity(seed=0, spread=-1)
    with pytest.raises(ValueError, match=r"grounder\.jitter=-1: give a number from 0"):
        SimulatedGrounder(seed=0, jitter=-1)
