"""The merit of chains: what counts, what comes first, and what does not count."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest

from benchmarks.shapes.facts import Facts
from benchmarks.shapes.merit import Merit, compare, merit
from benchmarks.shapes.oracle import OracleJudge
from benchmarks.shapes.prompts import parse_prompt
from harness.chain import format_chain, parse
from harness.types import Box, Chain, PlannedObject, Prompt, Question

LEFT, RIGHT, TOP = Box(0, 333, 333, 667), Box(667, 333, 1000, 667), Box(333, 0, 667, 333)
PROMPT = "a red circle on the left of a blue square"


def chain(*things: tuple[str, Box | None], prose: str = " and ") -> Chain:
    parts: list[str | PlannedObject] = ["A "]
    for name, box in things:
        parts += [PlannedObject(name=name, box=box), prose]
    return parse(format_chain(*parts))


def facts() -> Facts:
    found = parse_prompt(PROMPT)
    assert found is not None
    return found


GOOD = chain(("red circle", LEFT), ("blue square", RIGHT))


@pytest.mark.parametrize(
    ("planned", "expected"),
    [
        (GOOD, Merit(3, 0, 0)),
        (chain(("red circle", RIGHT), ("blue square", LEFT)), Merit(2, 0, 0)),
        (chain(("red circle", LEFT)), Merit(1, 0, 0)),
        (chain(("red circle", LEFT), ("green square", RIGHT)), Merit(1, -1, 0)),
        (chain(("red circle", LEFT), ("blue square", RIGHT), ("red circle", TOP)), Merit(3, -1, 0)),
        (chain(("red circle", LEFT), ("blue square", None)), Merit(1, 0, -1)),
        (chain(("red circle", LEFT), ("blue square", Box(667, 333, 700, 667))), Merit(1, 0, 0)),
        (parse(""), Merit(0, 0, -1)),
        (parse(GOOD.text.replace("<begin_of_image>", "")), Merit(3, 0, -1)),
    ],
)
def test_facts_unasked_objects_and_faults_are_counted(planned, expected):
    assert merit(facts(), planned) == expected


def test_facts_come_first_then_unasked_objects_then_faults():
    three = chain(("red circle", LEFT), ("blue square", RIGHT), ("green circle", TOP), ("cyan square", TOP))
    faulty = parse(GOOD.text + "more")
    reversed_places = chain(("red circle", RIGHT), ("blue square", LEFT))
    ranked = [GOOD, faulty, three, reversed_places, parse("")]
    for better, worse in pairwise(ranked):
        assert compare(facts(), better, worse)[0] == "A"
        assert compare(facts(), worse, better)[0] == "B"


def test_prose_does_not_count():
    assert (
        compare(facts(), GOOD, chain(("blue square", RIGHT), ("red circle", LEFT), prose=" ok "))[0] == "tie"
    )


def test_the_exact_judge_selects_by_merit_and_gives_the_counts():
    prompt = Prompt(id="p", text=PROMPT, category="2D-spatial", facts=facts().plain())
    asked = {"prompt": prompt, "first": parse(""), "second": GOOD}
    (answer,) = OracleJudge().ask([Question(kind="preference", text="?", facts=asked)])
    assert json.loads(answer.text) == {
        "reasoning": "A: 0 facts hold, 0 unasked objects, 1 faults;"
        " B: 3 facts hold, 0 unasked objects, 0 faults.",
        "selected": "B",
    }


@pytest.mark.parametrize("lost", ["prompt", "first", "second"])
def test_without_the_prompt_or_a_chain_the_exact_judge_has_no_answer(lost):
    prompt = Prompt(id="p", text=PROMPT, category="2D-spatial", facts=facts().plain())
    asked = {
        name: value
        for name, value in {"prompt": prompt, "first": GOOD, "second": GOOD}.items()
        if name != lost
    }
    assert OracleJudge().ask([Question(kind="preference", text="?", facts=asked)])[0].failure
