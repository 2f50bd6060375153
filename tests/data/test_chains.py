"""Chains of GoT data in the grammar: every form, everything that is refused, and whatever else may come."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.chain import END, format_chain, parse
from harness.data.chains import convert, read
from harness.types import Box, PlannedObject

VASE = PlannedObject(name="red vase", box=Box(120, 45, 380, 600))
ON_A_TABLE = format_chain("A ", VASE, " on a table.")


@pytest.mark.parametrize(
    "text",
    [
        ON_A_TABLE,
        ON_A_TABLE.removesuffix(END),
        f"  {ON_A_TABLE} \n",
        "A <|obj_start|> red vase <|obj_end|><|box_start|>(120,45),(380,600)<|box_end|> on a table.",
        "A <|obj_start|>red vase<|obj_end|> (120,45),(380,600) on a table.",
        "A <|object_ref_start|>red vase<|object_ref_end|><|box_start|>(120,45),(380,600)<|box_end|> on a "
        "table.",
        "A red vase <|box_start|>(120,45),(380,600)<|box_end|> on a table.",
        "A red vase (120,45),(380,600) on a table.",
        "A red vase ( 120, 45 ) , ( 380 ,600) on a table.",
        "A red vase(120,45)(380,600) on a table.",
    ],
)
def test_every_form_of_a_chain_is_the_same_chain(text: str) -> None:
    assert convert(text) == ON_A_TABLE


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("A large, bright red vase", "bright red vase"),
        ("The scene features red tulips", "red tulips"),
        ("a bouquet of red tulips", "bouquet of red tulips"),
        ("Mount Fuji", "Mount Fuji"),
        ("It shows a cat and two dogs", "two dogs"),
        ("behind them, the cat's basket", "cat's basket"),
        ("wearing a wide-brimmed hat", "wide-brimmed hat"),
    ],
)
def test_the_name_of_an_untagged_box_is_the_words_right_before_it(words: str, name: str) -> None:
    chain = convert(f"{words} (1,2),(3,4).")
    (found,) = parse(chain).objects
    assert found == PlannedObject(name=name, box=Box(1, 2, 3, 4))
    assert parse(chain).bare_text == f"{words}."


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no object with a box"),
        ("A red vase on a table.", "no object with a box"),
        (
            "<|obj_start|>vase<|obj_end|> on a table, a cat (1,2),(3,4)",
            "a tag belongs to no object with a box",
        ),
        ("<|obj_start|>vase<|obj_end|> at (1,2),(3,4)", "no name of its own|a tag belongs to no object"),
        ("a vase (1,2),(3,1001)", "not within 0..1000"),
        ("a vase (-1,2),(3,4)", "not within 0..1000"),
        ("a vase (3,2),(1,4)", "first corner top left"),
        ("a vase (1,2),(1,4)", "box 1 is empty"),
        ("a vase (0.1,0.2),(0.3,0.4)", "coordinates are whole numbers"),
        ("a vase (1,2),(3,4),(5,6),(7,8)", "box 2 has no name of its own"),
        ("(1,2),(3,4)", "box 1 has no name of its own"),
        ("a vase at (1,2),(3,4)", "box 1 has no name of its own"),
        ("<|obj_start|> <|obj_end|> <|box_start|>(1,2),(3,4)<|box_end|>", "an object without a name"),
        ("a vase <|box_start|>(1,2),(3,4) there", "has only one of its two tags"),
        ("a vase (1,2),(3,4)<|box_end|> there", "has only one of its two tags"),
        ("a vase (1,2),(3,4) and a cat (5,6)", r"these coordinates are no box .*'\(5,6\)'"),
        ("a vase (1,2),(3,4) and a cat [5,6,7,8]", r"these coordinates are no box .*'\[5,6,7,8\]'"),
        (f"a vase (1,2),(3,4){END} and on", "text after"),
        ("a vase (1,2),(3,4)<|im_end|>", r"holds <\|im_end\|>"),
        ("w " * 20 + "vase (1,2),(3,4)", "the name of box 1 is unclear"),
    ],
    ids=str,
)
def test_what_cannot_be_read_with_certainty_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        convert(text)


TAGS = (
    "<|obj_start|>",
    "<|obj_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|object_ref_start|>",
    "<|im_end|>",
    END,
)
PIECES = (
    "(1,2),(3,4)",
    "(10,20) , (30,40)",
    "(1,2",
    "),(",
    "[1,2,3,4]",
    "a red vase",
    "of",
    " a ",
    " ",
    "<",
    "|",
    ">",
    ",",
    ".",
    "1",
    "\n",
)
SCRAPS = st.sampled_from((*TAGS, *PIECES))


@settings(max_examples=400, deadline=None)
@given(st.lists(SCRAPS | st.text(max_size=3), max_size=14))
def test_anything_is_refused_or_becomes_a_chain_without_faults(scraps: list[str]) -> None:
    text = "".join(scraps)
    try:
        chain = convert(text)
    except ValueError:
        return
    plan = parse(chain)
    assert plan.faults == () and plan.objects
    assert tuple(part for part in read(text) if isinstance(part, PlannedObject)) == plan.objects
    assert convert(chain) == chain


def boxes() -> st.SearchStrategy[Box]:
    sides = st.tuples(st.integers(0, 999), st.integers(1, 1000)).filter(lambda pair: pair[0] < pair[1])
    return st.tuples(sides, sides).map(lambda pair: Box(pair[0][0], pair[1][0], pair[0][1], pair[1][1]))


WORDS = st.lists(st.sampled_from(["red", "old", "vase", "cat", "of", "glass"]), min_size=1, max_size=4).map(
    " ".join
)
OBJECTS = st.builds(lambda name, box: PlannedObject(name=name, box=box), WORDS, boxes())


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["A ", " and a ", ", on the ", "; "]), OBJECTS), min_size=1, max_size=5
    )
)
def test_chains_of_the_grammar_come_back_as_they_are(pairs: list[tuple[str, PlannedObject]]) -> None:
    chain = format_chain(*(part for pair in pairs for part in pair)).strip()
    assert convert(chain) == chain
    assert parse(convert(chain)).objects == tuple(thing for _, thing in pairs)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(OBJECTS.filter(lambda thing: not thing.name.startswith("of")), min_size=1, max_size=5),
    st.booleans(),
)
def test_names_and_boxes_survive_the_untagged_form(things: list[PlannedObject], tagged: bool) -> None:
    def written(box: Box) -> str:
        text = f"({box.x1},{box.y1}),({box.x2},{box.y2})"
        return f"<|box_start|>{text}<|box_end|>" if tagged else text

    text = " and ".join(f"a {thing.name} {written(thing.box)}" for thing in things if thing.box)
    assert parse(convert(text)).objects == tuple(things)


@pytest.mark.parametrize(
    "noise", ["(", "<|obj_start|>", "(1,2),(3,4)", " ", "a ", "<|", "[1,", "<|obj_start|>a<|obj_end|> ", "1"]
)
def test_reading_takes_linear_time(noise: str) -> None:
    begin = time.process_time()
    with pytest.raises(ValueError):
        convert(noise * 20000)
    assert time.process_time() - begin < 2
