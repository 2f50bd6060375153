"""Edits of boxes and of the order of objects, on any chain that the reader reads."""

from __future__ import annotations

import re
from collections import Counter

from hypothesis import assume, example, given
from hypothesis import strategies as st
from mini_chains import case_of

from harness.chain import BOX_END, BOX_START, END, OBJ_END, OBJ_START, format_chain, parse
from harness.interventions.case import Case, Change, Intervention
from harness.interventions.margin import Margin
from harness.interventions.segments import Reorder, Shuffled
from harness.interventions.swap import Minimal, Swap
from harness.relations import AXES
from harness.types import Box, PlannedObject

PIECES = (
    OBJ_START,
    OBJ_END,
    BOX_START,
    BOX_END,
    END,
    "(1,2),(300,400)",
    "(900,7), (8,1200)",
    "cat",
    " a ",
    "(",
)
WHOLE = [
    f"{OBJ_START}{name}{OBJ_END}{blank}{BOX_START}{box}{BOX_END}"
    for name, blank, box in (
        ("cat", " ", "(1,2),(300,400)"),
        ("old dog", "", "(900, 7), (8, 1200)"),
        ("lamp", " near ", "(007,010),(80,95)"),
    )
]
noise = st.lists(st.sampled_from(WHOLE) | st.sampled_from(PIECES), max_size=12).map("".join)
boxes = st.tuples(*[st.lists(st.integers(0, 1000), min_size=2, max_size=2).map(sorted)] * 2).map(
    lambda found: Box(found[0][0], found[1][0], found[0][1], found[1][1])
)
NAMES = ("cat", "old dog", "lamp")
objects = st.lists(boxes, min_size=2, max_size=3).map(
    lambda found: [PlannedObject(name=name, box=box) for name, box in zip(NAMES, found, strict=False)]
)
words = st.sampled_from(sorted(AXES))


def chain_of(planned: list[PlannedObject]) -> str:
    parts: list[str | PlannedObject] = ["A "]
    for one in planned:
        parts += [one, " and, "]
    return format_chain(*parts, "in soft light.")


def drawn(intervention: Intervention, chain: str, word: str = "on the left of", **settings: str) -> Change:
    return intervention(case_of(f"a cat {word} a dog", chain, **settings))


def text(change: Change) -> str:
    assert isinstance(change.chain, str)
    return change.chain


def outside(chain: str) -> list[str]:
    """All characters that stand in no box group, up to begin-of-image."""
    return re.split(rf"{re.escape(BOX_START)}[^<]*{re.escape(BOX_END)}", chain.partition(END)[0])


@given(noise)
@example(f"{OBJ_START}cat{OBJ_END}{BOX_START}(1,2),(300,400){BOX_END}" * 2)
def test_an_edit_of_boxes_leaves_all_other_characters(chain: str) -> None:
    for intervention in (Swap(), Minimal(), Margin(margin=0.3, least=False, limit=1000)):
        change = drawn(intervention, chain, roles="order")
        assert outside(text(change)) == outside(chain)
        before, after = parse(chain).objects, parse(text(change)).objects
        assert [one.name for one in before] == [one.name for one in after]
        if not change.applied:
            assert change.reason and text(change) == chain.partition(END)[0] + END


@given(noise)
def test_an_edit_of_boxes_moves_those_of_the_two_roles_alone(chain: str) -> None:
    change = drawn(Swap(), chain, roles="order")
    assume(change.applied)
    before = [one.box for one in parse(chain).objects if one.box]
    after = [one.box for one in parse(text(change)).objects if one.box]
    assert after == [before[1], before[0], *before[2:]]


@given(noise, st.integers())
def test_another_order_keeps_every_object_with_its_box(chain: str, seed: int) -> None:
    for intervention in (Reorder(), Shuffled()):
        change = intervention(case_of("a cat near a dog", chain, seed=seed))
        assert Counter(parse(text(change)).objects) == Counter(parse(chain).objects)


@given(objects, words)
def test_two_exchanges_and_two_reversals_give_the_own_chain(planned: list[PlannedObject], word: str) -> None:
    chain = chain_of(planned)
    assert text(drawn(Swap(), text(drawn(Swap(), chain, word)), word)) == chain
    assert text(drawn(Reorder(), text(drawn(Reorder(), chain)))) == chain


@given(objects, st.integers())
def test_a_shuffled_chain_is_never_the_own_one(planned: list[PlannedObject], seed: int) -> None:
    chain = chain_of(planned)
    change = Shuffled()(case_of("a cat near a dog", chain, seed=seed))
    assert change.applied and text(change) != chain


@given(objects, words, st.floats(0.01, 0.99), st.sampled_from([999, 1000]))
def test_a_margin_is_reached_unless_a_box_is_too_large(
    planned: list[PlannedObject], word: str, margin: float, limit: int
) -> None:
    intervention = Margin(margin=margin, least=False, limit=limit)
    change = drawn(intervention, chain_of(planned), word)
    assert text(drawn(intervention, text(change), word)) == text(change)
    before, after = planned, parse(text(change)).objects
    axis, side = AXES[word]
    clamped = False
    for old, new in zip(before[:2], after[:2], strict=True):
        assert old.box and new.box
        assert sides(old.box) == sides(new.box)
        other = 1 - axis
        if corners(old.box)[other][1] <= limit:
            assert corners(old.box)[other] == corners(new.box)[other]
        clamped |= sides(old.box)[axis] / 2 > 500 * (1 - margin) - (1000 - limit)
    achieved = change.details["achieved_margin"]
    assert clamped or abs(achieved - margin) <= 0.001 + 1e-9
    case = case_of(f"a cat {word} a dog", text(change))
    assert case.reading.right(case.chain) == (achieved > 0 and signed(case, axis, side) > 0)
    assert before[2:] == list(after[2:])


def sides(box: Box) -> tuple[int, int]:
    return box.x2 - box.x1, box.y2 - box.y1


def corners(box: Box) -> tuple[tuple[int, int], tuple[int, int]]:
    return (box.x1, box.x2), (box.y1, box.y2)


def signed(case: Case, axis: int, side: int) -> float:
    subject, other = case.reading.boxes(case.chain) or (None, None)
    assert subject and other
    return (subject.center[axis] - other.center[axis]) * side


@given(objects, words)
def test_a_minimal_repair_never_makes_a_plan_worse_and_leaves_right_plans(
    planned: list[PlannedObject], word: str
) -> None:
    own = case_of(f"a cat {word} a dog", chain_of(planned))
    change = Minimal()(own)
    was, is_now = own.reading.right(own.chain), own.reading.right(parse(text(change)))
    assert is_now or not was
    assert not was or (not change.applied and text(change) == chain_of(planned))
    assert change.applied == (not was and is_now)


def test_least_leaves_boxes_that_are_far_enough_apart_and_in_order() -> None:
    apart = [
        PlannedObject(name=name, box=Box(x, 400, x + 100, 500)) for name, x in (("cat", 100), ("dog", 700))
    ]
    least = Margin(margin=0.4, least=True, limit=999)
    assert not drawn(least, chain_of(apart)).applied
    assert drawn(least, chain_of(apart), "on the right of").applied
    assert (
        drawn(Margin(margin=0.4, least=False, limit=999), chain_of(apart)).details["achieved_margin"] == 0.4
    )


def test_a_margin_names_the_further_objects_that_it_covers() -> None:
    planned = [
        PlannedObject(name="cat", box=Box(0, 0, 200, 200)),
        PlannedObject(name="dog", box=Box(300, 0, 500, 200)),
        PlannedObject(name="lamp", box=Box(850, 0, 950, 200)),
    ]
    change = drawn(Margin(margin=0.6, least=False, limit=999), chain_of(planned))
    assert change.details["overlapped"] == ["lamp"]


def test_with_roles_by_order_another_order_of_objects_may_turn_a_plan_wrong() -> None:
    planned = [
        PlannedObject(name=name, box=Box(x, 400, x + 100, 500)) for name, x in (("cat", 100), ("dog", 700))
    ]
    for roles, right in (("name", True), ("order", False)):
        case = case_of("a cat on the left of a dog", chain_of(planned), roles=roles)
        assert case.reading.right(case.chain)
        assert case.reading.right(parse(text(Reorder()(case)))) is right
