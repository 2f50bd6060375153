"""The chain grammar: what is written reads back, what is malformed is read leniently and named."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from harness.chain import (
    BOX_END,
    BOX_START,
    END,
    OBJ_END,
    OBJ_START,
    draw_layout,
    draw_overlay,
    format_chain,
    parse,
    without_control_tokens,
)
from harness.types import CANVAS, Box, PlannedObject

TAGS = [OBJ_START, OBJ_END, BOX_START, BOX_END, END]
PIECES = [
    *TAGS,
    "(1,2),(3,4)",
    "(",
    ")",
    ",",
    " ",
    "12",
    "-3",
    "99999999999",
    "1.5",
    "<|",
    "|>",
    "<|im_end|>",
    "vase",
    "\n",
    "🫖",
]

words = st.text().filter(lambda text: not any(mark in text for mark in "<>|"))
names = words.map(str.strip).filter(bool)
edges = st.integers(0, CANVAS)
boxes = st.builds(
    lambda x, y: Box(min(x), min(y), max(x), max(y)), st.tuples(edges, edges), st.tuples(edges, edges)
)
objects = st.builds(PlannedObject, name=names, box=st.none() | boxes)


def chain_of(name: str, box: str) -> str:
    return f"A {OBJ_START}{name}{OBJ_END} {box} stands.{END}"


def only_object(text: str) -> PlannedObject:
    (found,) = parse(text).objects
    return found


@given(st.lists(words | objects))
def test_what_format_writes_parse_reads(parts):
    chain = format_chain(*parts)
    read = parse(chain)
    assert read.text == chain
    assert list(read.objects) == [part for part in parts if isinstance(part, PlannedObject)]
    assert all("has no box" in fault or "is empty" in fault for fault in read.faults)
    assert not any(tag in read.bare_text for tag in TAGS)
    assert (
        read.bare_text.split()
        == "".join(part if isinstance(part, str) else part.name for part in parts).split()
    )


@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=40).map("".join))
def test_any_text_is_read_without_an_exception(text):
    read = parse(text)
    assert read.text == text
    assert not any(tag in read.bare_text for tag in TAGS)
    assert draw_layout(read, 64).size == (64, 64)
    if END not in text:
        assert read.faults


def test_published_chains_read_as_their_objects(conformance_dir):
    cases = json.loads((conformance_dir / "chains.json").read_text(encoding="utf-8"))
    assert cases
    for case in cases:
        read = parse(case["chain"])
        assert [(thing.name, thing.box) for thing in read.objects] == [
            (thing["name"], Box(*thing["box"])) for thing in case["objects"]
        ]
        assert read.faults == ()
        pieces = []
        rest = case["chain"].removesuffix(END)
        for thing in read.objects:
            before, _, rest = rest.partition(OBJ_START)
            rest = rest.partition(BOX_END)[2]
            pieces += [before, thing]
        assert format_chain(*pieces, rest) == case["chain"]


def test_the_text_without_boxes_reads_as_english():
    vase, table = (
        PlannedObject(name="yellow vase", box=Box(1, 2, 3, 4)),
        PlannedObject(name="table", box=Box(0, 0, 1000, 1000)),
    )
    assert (
        parse(format_chain("A ", vase, " on a ", table, ", lit.")).bare_text
        == "A yellow vase on a table, lit."
    )


@pytest.mark.parametrize(
    ("box", "expected", "fault"),
    [
        (f"{BOX_START}(1,2),(3,4){BOX_END}", Box(1, 2, 3, 4), None),
        (f"{BOX_START}(30,40),(10,20){BOX_END}", Box(10, 20, 30, 40), "swapped"),
        (f"{BOX_START}(30,20),(10,40){BOX_END}", Box(10, 20, 30, 40), "swapped"),
        (f"{BOX_START}(900,900),(1100,950){BOX_END}", Box(900, 900, 1000, 950), "reaches outside"),
        (f"{BOX_START}(-5,900),(100,950){BOX_END}", Box(0, 900, 100, 950), "reaches outside"),
        (f"{BOX_START}(1001,900),(1100,950){BOX_END}", None, "lies outside"),
        (f"{BOX_START}({'9' * 5000},1),(2,3){BOX_END}", Box(2, 1, 1000, 3), "reaches outside"),
        (f"{BOX_START}(5,5),(5,9){BOX_END}", Box(5, 5, 5, 9), "is empty"),
        (f"{BOX_START}[1.6, 2, 3, 4]{BOX_END}", Box(2, 2, 3, 4), "not written as"),
        (f"{BOX_START}(1,2),(3,4) big{BOX_END}", Box(1, 2, 3, 4), "more than coordinates"),
        (f"{BOX_START}(1,2),(3{BOX_END}", None, "cannot be read"),
        (f"{BOX_START}{BOX_END}", None, "cannot be read"),
        (f"{BOX_START}(1,2),(3,4)", Box(1, 2, 3, 4), f"{BOX_START} without {BOX_END}"),
        (f"(1,2),(3,4){BOX_END}", Box(1, 2, 3, 4), f"{BOX_END} without {BOX_START}"),
        (f"indeed {BOX_START}(1,2),(3,4){BOX_END}", Box(1, 2, 3, 4), "words between"),
        (f"{BOX_START}(1,2),(3,4){BOX_END} {BOX_START}(5,6),(7,8){BOX_END}", Box(1, 2, 3, 4), "second box"),
        (f"{BOX_START}{BOX_START}(5,6),(7,8){BOX_END}{BOX_END}", None, "second box"),
        ("", None, "has no box"),
    ],
)
def test_a_box_is_read_as_far_as_it_can_be_and_its_fault_named(box, expected, fault):
    read = parse(chain_of("vase", box))
    assert [(thing.name, thing.box) for thing in read.objects] == [("vase", expected)]
    assert (
        "(" not in read.bare_text
        and read.bare_text.startswith("A vase")
        and read.bare_text.endswith("stands.")
    )
    assert (read.faults == ()) if fault is None else any(fault in found for found in read.faults)


def test_an_object_without_its_end_tag_is_closed_by_its_box():
    read = parse(f"A {OBJ_START}red vase {BOX_START}(1,2),(3,4){BOX_END} stands.{END}")
    assert read.objects == (PlannedObject(name="red vase", box=Box(1, 2, 3, 4)),)
    assert read.bare_text == "A red vase stands."
    assert any(OBJ_END in fault for fault in read.faults)


def test_nested_and_repeated_tags_read_as_the_inner_object():
    nested = (
        f"{OBJ_START}the {OBJ_START}{OBJ_START}vase{OBJ_END}{OBJ_END} {BOX_START}(1,2),(3,4){BOX_END}{END}"
    )
    assert only_object(nested) == PlannedObject(name="vase", box=Box(1, 2, 3, 4))
    assert len(parse(nested).faults) == 3


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("nothing planned", "does not end with"),
        ("", "does not end with"),
        (f"cut off at {OBJ_START}blue squ", "no object is read"),
        (f"{OBJ_START} {OBJ_END} {BOX_START}(1,2),(3,4){BOX_END}{END}", "without a name"),
        (f"{BOX_START}(1,2),(3,4){BOX_END}{END}", "a box without an object"),
        (f"fine{END} and on", "text after"),
    ],
)
def test_what_plans_no_object_says_why(text, fault):
    read = parse(text)
    assert read.objects == ()
    assert any(fault in found for found in read.faults)


def test_what_follows_the_end_is_ignored():
    vase = PlannedObject(name="vase", box=None)
    assert parse(format_chain("a ", vase) + format_chain(vase)).objects == (vase,)


@pytest.mark.parametrize(
    "noise",
    [
        *PIECES,
        "<|obj_start|>a<|obj_end|>",
        "<|box_start|>(1,2),(3,4)",
        "(1,",
        " <|box_start|>",
        "<|a",
        "(1, 2",
    ],
)
def test_long_noise_is_read_in_linear_time(noise):
    begun = time.process_time()
    parse(noise * (400_000 // len(noise)) + BOX_END)
    assert time.process_time() - begun < 2


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([f"a{END}"], "holds a tag"),
        ([PlannedObject(name=OBJ_START, box=None)], "holds a tag"),
        (["<begin_of_", "image>"], "join to a tag"),
        (["<|obj_", "start|>"], "join to a tag"),
        ([PlannedObject(name=" vase", box=None)], "without spaces around it"),
        ([PlannedObject(name="", box=None)], "non-empty"),
    ],
)
def test_format_refuses_what_would_not_read_back(parts, message):
    with pytest.raises(ValueError, match=message):
        format_chain(*parts)


def test_control_tokens_do_not_reach_a_judge():
    assert parse(f"a<|im_end|>b<｜end▁of▁sentence｜>c{END}").bare_text == "a b c"
    assert "<|im_end|>" not in without_control_tokens("<|im<|im_end|>_end|> <|im_end|>")
    assert "<|im_end|>" not in parse(f"<|im{OBJ_START}_end|>{END}").bare_text


def test_a_layout_shows_each_box_in_its_own_color_and_a_label():
    read = parse(
        format_chain(
            PlannedObject(name="vase", box=Box(100, 200, 500, 900)),
            PlannedObject(name="🫖", box=Box(600, 0, 1000, 300)),
        )
    )
    canvas = draw_layout(read, 448)
    assert canvas.size == (448, 448)
    assert canvas.getpixel((5, 440)) == (255, 255, 255)
    left, right = canvas.getpixel((44, 300)), canvas.getpixel((447, 100))
    assert len({left, right, (255, 255, 255)}) == 3
    unlabelled = draw_layout(parse(format_chain(PlannedObject(name="o", box=Box(100, 200, 500, 900)))), 448)
    colors = {color for _, color in canvas.crop((44, 60, 200, 89)).getcolors(10_000)}
    assert left in colors and (255, 255, 255) in colors
    assert canvas.crop((44, 60, 200, 89)).tobytes() != unlabelled.crop((44, 60, 200, 89)).tobytes()


def test_labels_of_equal_boxes_do_not_cover_each_other():
    box = Box(100, 400, 900, 900)
    canvas = draw_layout(parse(format_chain(*(PlannedObject(name="vase", box=box) for _ in range(4)))), 448)
    column = {canvas.getpixel((46, y)) for y in range(448)}
    assert len(column) >= 1 + 4  # white, and the ground of four labels


def test_an_overlay_enlarges_a_small_picture_without_touching_it():
    picture = Image.new("RGB", (24, 24), (10, 20, 30))
    read = parse(format_chain(PlannedObject(name="vase", box=Box(250, 250, 750, 750))))
    overlay = draw_overlay(picture, read, 384)
    assert overlay.size == (384, 384)
    assert overlay.getpixel((192, 192)) == (10, 20, 30)
    assert overlay.getpixel((95, 200)) != (10, 20, 30)
    assert picture.getcolors() == [(576, (10, 20, 30))]
    assert draw_overlay(picture.resize((500, 250)), read, 384).size == (500, 250)


def test_a_layout_of_thousands_of_boxes_is_drawn():
    many = parse(
        format_chain(
            *(
                PlannedObject(name=f"vase {index}" * 20, box=Box(index % 900, 0, 1000, 1000))
                for index in range(2000)
            )
        )
    )
    begun = time.process_time()
    draw_layout(many)
    assert time.process_time() - begun < 5
