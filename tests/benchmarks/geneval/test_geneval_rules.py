"""GenEval's rules, quirk by quirk, in both modes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.geneval.rules import COLORS, RELATIONS, Verdict, colored, evaluate, iou, keep, relations
from harness.types import Detections

MODES = ("official", "corrected")
LEFT, RIGHT, HIGH, LOW = (
    (0.0, 40.0, 20.0, 60.0),
    (80.0, 40.0, 100.0, 60.0),
    (40.0, 0.0, 60.0, 20.0),
    (40.0, 80.0, 60.0, 100.0),
)

Thing = tuple[str, tuple[float, float, float, float], float]  # class, box, score


def detections(*things: Thing) -> Detections:
    labels, boxes, scores = zip(*things, strict=True) if things else ((), (), ())
    return Detections(frame=(100, 100), labels=labels, boxes=boxes, scores=scores)


def line(
    *include: dict[str, Any], exclude: list[dict[str, Any]] | None = None, tag: str = "position"
) -> dict[str, Any]:
    return {"tag": tag, "prompt": "p", "include": list(include), **({"exclude": exclude} if exclude else {})}


def one(label: str, count: int = 1, **more: Any) -> dict[str, Any]:
    return {"class": label, "count": count, **more}


def none_asked(label: str, place: int) -> str:
    raise AssertionError(f"the color of {label} {place} was asked for")


def judge(
    metadata: dict[str, Any], found: Detections, mode: str, color_of: Callable[[str, int], str] = none_asked
) -> Verdict:
    return evaluate(metadata, found, keep(found, metadata["tag"], mode=mode), color_of, mode=mode)


def test_scores_must_be_above_the_threshold_in_float32() -> None:
    assert keep(detections(("cow", LEFT, float(np.float32(0.3))), ("cow", RIGHT, 0.3001)), "position") == {
        "cow": (1,)
    }


def test_g1_counting_asks_for_more_in_official_mode_alone() -> None:
    found = detections(("cow", LEFT, 0.95), ("cow", RIGHT, 0.5))
    assert [keep(found, "counting", mode=mode) for mode in MODES] == [{"cow": (0,)}, {"cow": (0, 1)}]
    assert [keep(found, "colors", mode=mode) for mode in MODES] == [{"cow": (0, 1)}, {"cow": (0, 1)}]


def test_g2_a_box_over_another_of_its_class_counts_in_official_mode_alone() -> None:
    same = (1.0, 40.0, 21.0, 60.0)
    found = detections(("cow", LEFT, 0.95), ("dog", LEFT, 0.94), ("cow", same, 0.93), ("cow", RIGHT, 0.92))
    assert [keep(found, "counting", mode=mode) for mode in MODES] == [
        {"cow": (0, 2, 3), "dog": (1,)},
        {"cow": (0, 3), "dog": (1,)},
    ]
    two = line(one("cow", 2), exclude=[one("cow", 3)], tag="counting")
    verdicts = [judge(two, found, mode) for mode in MODES]
    assert [(verdict.correct, verdict.reason) for verdict in verdicts] == [
        (False, "expected cow<3, found 3"),
        (True, ""),
    ]
    assert [verdict.used for verdict in verdicts] == [(0, 2, 3), (0, 3)]


def test_what_is_suppressed_suppresses_nothing() -> None:
    chain = [("cow", (place, 0.0, place + 19.0, 19.0), 0.9 - place / 100) for place in (0.0, 3.0, 6.0)]
    assert iou(chain[0][1], chain[1][1]) > 0.7 > iou(chain[0][1], chain[2][1])
    assert keep(detections(*chain), "colors", mode="corrected") == {"cow": (0, 2)}


def test_the_sixteen_surest_of_a_class_count() -> None:
    found = detections(
        *[("cow", (10.0 * place, 0.0, 10.0 * place + 5, 5.0), 0.4 + place / 100) for place in range(20)]
    )
    for mode in MODES:
        assert keep(found, "colors", mode=mode) == {"cow": tuple(range(19, 3, -1))}


def test_g8_equal_scores_have_an_order() -> None:
    found = detections(("cow", LEFT, 0.5), ("cow", RIGHT, 0.5))
    assert [keep(found, "colors", mode=mode) for mode in MODES] == [{"cow": (1, 0)}, {"cow": (0, 1)}]


def test_nothing_found() -> None:
    for mode in MODES:
        assert keep(detections(), "colors", mode=mode) == {}
        assert judge(line(one("cow", 2)), detections(), mode) == Verdict(
            correct=False, reason="expected cow>=2, found 0", used=()
        )


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("a", "b", "relation"), [(LEFT, RIGHT, 0), (RIGHT, LEFT, 1), (HIGH, LOW, 2), (LOW, HIGH, 3)]
)
def test_directions(mode: str, a, b, relation: int) -> None:
    assert relations(a, b, mode=mode) == {RELATIONS[relation]}
    assert relations(a, a, mode=mode) == frozenset()


def test_g5_a_diagonal_has_two_relations_in_official_mode_and_none_or_the_longer_one_in_corrected() -> None:
    corner, middle, flat = (0.0, 0.0, 2.0, 2.0), (60.0, 60.0, 62.0, 62.0), (60.0, 50.0, 62.0, 52.0)
    assert relations(corner, middle) == relations(corner, flat) == {"left of", "above"}
    assert relations(corner, middle, mode="corrected") == frozenset()
    assert relations(corner, flat, mode="corrected") == {"left of"}


def test_g6_large_boxes_stand_in_no_relation_in_official_mode() -> None:
    a, b = (0.0, 0.0, 100.0, 10.0), (30.0, 0.0, 130.0, 10.0)  # 30 apart, 10 of them beyond the margin
    assert relations(a, b) == frozenset() and relations(a, b, mode="corrected") == {"left of"}
    assert (
        relations(a, (20.0, 0.0, 120.0, 10.0), mode="corrected") == frozenset()
    )  # nothing beyond the margin


corners = st.tuples(*[st.integers(0, 100)] * 4).map(
    lambda box: (min(box[::2]), min(box[1::2]), max(box[::2]), max(box[1::2]))
)


@given(a=corners, b=corners)
def test_relations_of_two_are_opposite(a, b) -> None:
    opposite = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
    for mode in MODES:
        assert relations(b, a, mode=mode) == {opposite[relation] for relation in relations(a, b, mode=mode)}
    assert len(relations(a, b, mode="corrected")) <= 1


def test_g3_g4_the_surest_alone_must_have_the_color_in_official_mode() -> None:
    found, colors = detections(("cow", LEFT, 0.9), ("cow", RIGHT, 0.8)), ["blue", "red"]
    verdicts = [
        judge(line(one("cow", color="red")), found, mode, lambda _, place: colors[place]) for mode in MODES
    ]
    assert [(verdict.correct, verdict.used) for verdict in verdicts] == [(False, (0,)), (True, (1,))]
    assert verdicts[0].reason == "expected red cow>=1, found 0 red; and 1 blue"
    assert judge(
        line(one("cow", 2, color="red")), found, "official", lambda _, place: colors[place]
    ).reason == ("expected red cow>=2, found 1 red; and 1 red, 1 blue")


def test_g3_any_two_that_stand_right_will_do_in_corrected_mode() -> None:
    found = detections(("cow", LEFT, 0.9), ("cow", HIGH, 0.8), ("dog", LEFT, 0.7), ("dog", RIGHT, 0.6))
    asked = line(one("cow"), one("dog", position=["right of", 0]))
    verdicts = [judge(asked, found, mode) for mode in MODES]
    assert [(verdict.correct, verdict.used) for verdict in verdicts] == [(False, (0, 2)), (True, (0, 3))]
    assert verdicts[0].reason == "expected dog right of target, found  target"


def test_corrected_choices_hold_for_all_entries_together() -> None:
    """The surest cow is right of the dog, another is below the cat: they must be one cow."""
    asked = line(one("cow"), one("dog", position=["left of", 0]), one("cat", position=["above", 0]))
    things = [
        ("cow", RIGHT, 0.9),
        ("cow", (40.0, 40.0, 60.0, 60.0), 0.8),
        ("dog", LEFT, 0.7),
        ("cat", HIGH, 0.6),
    ]
    assert judge(asked, detections(*things), "corrected") == Verdict(correct=True, reason="", used=(1, 2, 3))
    del things[1]
    apart = judge(asked, detections(*things), "corrected")
    assert (apart.correct, apart.reason) == (
        False,
        "expected dog left of target and cat above target, found none",
    )
    assert apart.used == (0, 1, 2)


def test_several_targets_must_all_be_stood_to() -> None:
    asked = line(one("cow", 2), one("dog", position=["left of", 0]))
    found = detections(
        ("cow", RIGHT, 0.9), ("cow", (0.0, 0.0, 5.0, 5.0), 0.8), ("dog", (40.0, 40.0, 60.0, 60.0), 0.7)
    )
    for mode in MODES:
        assert not judge(asked, found, mode).correct
    third = detections(
        ("cow", RIGHT, 0.9),
        ("cow", (0.0, 0.0, 5.0, 5.0), 0.8),
        ("dog", LEFT, 0.7),
        ("cow", (90.0, 60.0, 99.0, 70.0), 0.6),
    )
    assert judge(asked, third, "corrected").used == (0, 3, 2)


def test_g7_two_relations_are_told_in_a_fixed_order() -> None:
    found = detections(("cow", (60.0, 60.0, 62.0, 62.0), 0.9), ("dog", (0.0, 0.0, 2.0, 2.0), 0.8))
    said = judge(line(one("cow"), one("dog", position=["below", 0])), found, "official").reason
    assert said == "expected dog below target, found left of and above target"


@pytest.mark.parametrize("mode", MODES)
def test_g9_what_fails_is_looked_at_no_further(mode: str) -> None:
    cows = detections(("cow", LEFT, 0.9))
    two = line(one("cow", 2, color="red"), one("dog", position=["left of", 0]))
    assert (
        judge(two, cows, mode).reason == "expected cow>=2, found 1\nexpected dog>=1, found 0"
    )  # no color was asked for
    both = detections(("cow", LEFT, 0.9), ("dog", RIGHT, 0.9))
    blue = line(one("cow", color="red"), one("dog", position=["right of", 0]))
    lines = judge(blue, both, mode, lambda label, place: "blue").reason.split("\n")
    assert lines[0] == "expected red cow>=1, found 0 red; and 1 blue"
    assert lines[1:] == (["no target for dog to be right of"] if mode == "official" else [])


@pytest.mark.parametrize("mode", MODES)
def test_g10_more_than_was_asked_for_does_not_hurt_without_exclude(mode: str) -> None:
    found = detections(("cow", LEFT, 0.9), ("cow", RIGHT, 0.9), ("dog", HIGH, 0.9))
    assert judge(line(one("cow"), tag="single_object"), found, mode).correct
    assert not judge(line(one("cow"), exclude=[one("cow", 2)], tag="counting"), found, mode).correct


@pytest.mark.parametrize("mode", MODES)
def test_colors_are_asked_of_those_that_are_looked_at(mode: str) -> None:
    found = detections(
        ("cow", LEFT, 0.9), ("cow", RIGHT, 0.8), ("dog", HIGH, 0.7), ("cat", LOW, 0.6), ("cow", LOW, 0.1)
    )
    asked = line(one("cow", color="red"), one("dog", 2, color="blue"), one("cat"))
    told: list[tuple[str, int]] = []
    judge(asked, found, mode, lambda label, place: told.append((label, place)) or "white")
    assert told == colored(asked, keep(found, asked["tag"], mode=mode), mode=mode)
    assert told == [("cow", 0)] + [("cow", 1)] * (mode == "corrected")


@given(
    things=st.lists(
        st.tuples(st.sampled_from(["cow", "dog"]), corners, st.floats(0, 1, width=32)), max_size=8
    ),
    color=st.none() | st.sampled_from(COLORS[:2]),
    position=st.none() | st.sampled_from(RELATIONS),
    counts=st.tuples(st.integers(1, 2), st.integers(1, 2)),
)
def test_what_the_surest_show_any_show(things, color, position, counts) -> None:
    """By one set of kept objects and one rule of relations, what is right in official mode would be
    right in corrected mode.
    """
    found = detections(*things)
    second = one(
        "dog",
        counts[1],
        **({"color": color} if color else {}),
        **({"position": [position, 0]} if position else {}),
    )
    asked, kept = line(one("cow", counts[0]), second), keep(found, "colors")
    official, corrected = (
        evaluate(asked, found, kept, lambda _, place: COLORS[place % 3], mode=mode) for mode in MODES
    )
    if official.correct and position is None:
        assert corrected.correct
    for verdict in (official, corrected):
        assert verdict.correct == (not verdict.reason) and len(set(verdict.used)) == len(verdict.used)
