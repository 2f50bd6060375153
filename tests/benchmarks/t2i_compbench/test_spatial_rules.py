import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.t2i_compbench.language.tokens import Token
from benchmarks.t2i_compbench.rules.nouns import matches
from benchmarks.t2i_compbench.rules.objects import (
    DEPTH_PREPOSITIONS,
    MORE_PREPOSITIONS,
    around_preposition,
    corrected,
)
from benchmarks.t2i_compbench.rules.relations import LOCALITIES, iou, position
from benchmarks.t2i_compbench.rules.spatial import score_2d
from harness.types import Detections

FRAME = (480, 480)
LEFT, MIDDLE, RIGHT = (10.0, 200.0, 60.0, 250.0), (210.0, 200.0, 260.0, 250.0), (400.0, 200.0, 450.0, 250.0)
TOP, BOTTOM = (210.0, 10.0, 260.0, 60.0), (210.0, 400.0, 260.0, 450.0)
OPPOSITE = {"on the left of": "on the right of", "on the top of": "on the bottom of"}


def tagged(text, nouns=()):
    """The words of a prompt; those of `nouns` are tagged so, by default the second and the last one."""
    words = text.replace(".", " .").split()
    nouns = nouns or (words[1], words[-1])
    return [Token(word, "NOUN" if word in nouns else "PUNCT" if word == "." else "X") for word in words]


def detections(*found, frame=FRAME):
    """From (label, box, score)."""
    labels, boxes, scores = zip(*found, strict=True) if found else ((), (), ())
    return Detections(frame=frame, labels=labels, boxes=boxes, scores=scores)


def score(prompt, *found, mode="official", nouns=(), complex_prompt=False, frame=FRAME):
    return score_2d(
        prompt,
        tagged(prompt, nouns),
        detections(*found, frame=frame),
        complex_prompt=complex_prompt,
        mode=mode,
    )


# --- both modes


@pytest.mark.parametrize("mode", ["official", "corrected"])
def test_a_perfect_image(mode):
    found = score("a cat on the left of a dog", ("dog", RIGHT, 1.0), ("cat", LEFT, 1.0), mode=mode)
    assert (found.value, found.before_cut, found.found, found.objects) == (1.0, 1.0, (1, 0), ("cat", "dog"))
    assert found.locality == "on the left of"


@pytest.mark.parametrize("mode", ["official", "corrected"])
def test_an_empty_image(mode):
    found = score("a cat on the left of a dog", mode=mode)
    assert (found.value, found.found) == (0.0, (None, None))
    assert isinstance(found.value, float)


@pytest.mark.parametrize("mode", ["official", "corrected"])
def test_one_of_two_objects_is_a_quarter_of_its_confidence_before_the_cut(mode):
    found = score("a cat on the left of a dog", ("bee", LEFT, 0.9), ("dog", LEFT, 0.8), mode=mode)
    assert (found.before_cut, found.found) == (pytest.approx(0.2), (None, 1))


@pytest.mark.parametrize("mode", ["official", "corrected"])
@pytest.mark.parametrize(
    ("locality", "a", "b"),
    [
        ("on the left of", LEFT, RIGHT),
        ("on the right of", RIGHT, LEFT),
        ("on the top of", TOP, BOTTOM),
        ("on the bottom of", BOTTOM, TOP),
        ("next to", LEFT, (70.0, 200.0, 120.0, 250.0)),
        ("on side of", LEFT, (70.0, 200.0, 120.0, 250.0)),
        ("near", LEFT, (70.0, 200.0, 120.0, 250.0)),
    ],
)
def test_directions_and_nearness(mode, locality, a, b):
    assert position(locality, a, b, mode=mode, frame=FRAME) == 1.0
    if locality.startswith("on the"):
        assert position(locality, b, a, mode=mode, frame=FRAME) == 0.0


@pytest.mark.parametrize("mode", ["official", "corrected"])
def test_empty_boxes_do_not_stop_the_rule(mode):
    assert iou((5, 5, 5, 5), (9, 5, 9, 5)) == 0.0
    assert position("on the left of", (5, 5, 5, 5), (9, 5, 9, 5), mode=mode) == 1.0


corners = st.tuples(*[st.integers(0, 480)] * 4).map(
    lambda c: tuple(map(float, (min(c[0], c[2]), min(c[1], c[3]), max(c[0], c[2]), max(c[1], c[3]))))
)


def mirrored(box):
    return 480 - box[2], box[1], 480 - box[0], box[3]


@pytest.mark.parametrize("mode", ["official", "corrected"])
@settings(deadline=None)
@given(a=corners, b=corners)
def test_the_opposite_of_the_mirrored_picture_is_as_good(mode, a, b):
    left = position("on the left of", a, b, mode=mode, frame=FRAME)
    assert left == position("on the right of", mirrored(a), mirrored(b), mode=mode, frame=FRAME)
    assert not (left and position("on the left of", mirrored(a), mirrored(b), mode=mode, frame=FRAME))
    for locality in ("on the top of", "next to", "near"):
        assert position(locality, a, b, mode=mode, frame=FRAME) == position(
            locality, mirrored(a), mirrored(b), mode=mode, frame=FRAME
        )


@pytest.mark.parametrize("mode", ["official", "corrected"])
@settings(deadline=None)
@given(a=corners, b=corners, locality=st.sampled_from([*LOCALITIES, None, "behind"]))
def test_positions_are_shares_and_a_relation_turns_with_its_opposite(mode, a, b, locality):
    found = position(locality, a, b, mode=mode, frame=FRAME)
    assert 0 <= found <= 1
    assert (
        found == position(OPPOSITE.get(locality, locality), b, a, mode=mode, frame=FRAME)
        or locality not in OPPOSITE
    )


@settings(deadline=None)
@given(
    a=corners, b=corners, locality=st.sampled_from(LOCALITIES), factor=st.sampled_from([0.25, 0.5, 2.0, 8.0])
)
def test_corrected_positions_do_not_depend_on_the_size_of_the_frame(a, b, locality, factor):
    larger = [tuple(factor * bound for bound in box) for box in (a, b)]
    frame = round(480 * factor), round(320 * factor)
    assert position(locality, a, b, mode="corrected", frame=(480, 320)) == position(
        locality, *larger, mode="corrected", frame=frame
    )


# --- the quirks of official mode, by number, and what corrected mode makes of them


def test_q1_labels_are_compared_whole_and_as_they_are():
    found = ("cattle, cow", LEFT, 1.0), ("loveseat, couch", RIGHT, 1.0)
    assert score("a cow on the left of a sofa", *found).found == (None, None)
    assert score("a cow on the left of a sofa", *found, mode="corrected").value == 1.0


def test_persons_are_persons_and_in_corrected_mode_keep_their_own_labels_too():
    persons = ("girl", LEFT, 0.9), ("person", RIGHT, 0.8)
    prompt = "a girl on the left of a boy"
    assert (score(prompt, *persons).objects, score(prompt, *persons).found) == (("person", "person"), (1, 1))
    assert (
        score(prompt, *persons, mode="corrected").objects,
        score(prompt, *persons, mode="corrected").found,
    ) == (("girl", "boy"), (0, 1))


def test_q2_on_top_of_has_no_rule():
    assert position("on top of", TOP, BOTTOM) == 0.0
    assert position("on top of", TOP, BOTTOM, mode="corrected") == 1.0
    prompt = "The cat is on top of the dog."
    for mode, value in (("official", 0.0), ("corrected", 0.95)):
        found = score(
            prompt,
            ("cat", TOP, 0.9),
            ("dog", BOTTOM, 0.9),
            mode=mode,
            nouns=("cat", "dog"),
            complex_prompt=True,
        )
        assert (found.value, found.locality) == (pytest.approx(value), "on top of")


def test_q3_on_bottom_of_has_no_locality_and_words_stay_as_they_are():
    prompt = "The red Cats are on bottom of the big Dogs."
    nouns = ("Cats", "Dogs")
    found = ("cat", BOTTOM, 1.0), ("dog", TOP, 1.0)
    official = score(prompt, *found, nouns=nouns, complex_prompt=True)
    assert (official.objects, official.locality, official.value) == (("Cats", "Dogs"), None, 0.0)
    corrected = score(prompt, *found, nouns=nouns, complex_prompt=True, mode="corrected")
    assert (corrected.objects, corrected.locality, corrected.value) == (("cat", "dog"), "on bottom of", 1.0)


def test_q4_a_score_below_a_half_is_cut():
    wrong = ("cat", RIGHT, 0.9), ("dog", LEFT, 0.9)
    official, corrected = (
        score("a cat on the left of a dog", *wrong, mode=mode) for mode in ("official", "corrected")
    )
    assert (official.value, official.before_cut) == (0.0, pytest.approx(0.45))
    assert corrected.value == corrected.before_cut == pytest.approx(0.45)
    assert (
        score("a cat on the left of a dog", ("cat", RIGHT, 1.0), ("dog", LEFT, 1.0)).value == 0.5
    )  # not below


def test_q5_near_on_one_axis_is_near():
    far = (10.0, 10.0, 20.0, 20.0), (10.0, 410.0, 20.0, 420.0)
    assert position("near", *far) == 1.0
    assert position("near", *far, mode="corrected", frame=FRAME) == 150 / 400
    assert position("near", (0, 0, 20, 20), (300, 400, 320, 420)) == 150 / 400
    assert position("near", (0, 0, 20, 20), (300, 400, 320, 420), mode="corrected", frame=FRAME) == 150 / 500
    assert position("near", LEFT, LEFT, mode="corrected", frame=FRAME) == 1.0


def test_q7_distances_are_pixels_of_the_frame():
    small = (10.0, 10.0, 20.0, 20.0), (80.0, 80.0, 90.0, 90.0)
    assert position("near", *small, frame=(120, 90)) == 1.0
    assert position("near", *small, mode="corrected", frame=(120, 90)) == pytest.approx(
        150 * 120 / 480 / 70 / 2**0.5
    )


def test_q9_only_the_best_scored_one_of_a_label_is_judged():
    found = ("cat", RIGHT, 0.9), ("cat", LEFT, 0.8), ("dog", MIDDLE, 0.7)
    official, corrected = (
        score("a cat on the left of a dog", *found, mode=mode) for mode in ("official", "corrected")
    )
    assert (official.found, official.value) == ((0, 2), 0.0)
    assert (corrected.found, corrected.value) == ((1, 2), pytest.approx(0.875))


def test_one_box_is_both_objects_in_official_mode_alone():
    twice = ("sofa", LEFT, 0.9), ("couch", LEFT, 0.8)
    assert score("a sofa next to a couch", *twice).value == pytest.approx(0.925)
    corrected = score("a sofa next to a couch", *twice, mode="corrected")
    assert (corrected.found, corrected.value) == ((0, None), pytest.approx(0.225))
    apart = score(
        "a sofa next to a couch", *twice, ("sofa", (70.0, 200.0, 120.0, 250.0), 0.5), mode="corrected"
    )
    assert (apart.found, apart.value) == ((0, 2), pytest.approx(0.85))


def test_q23_the_objects_hang_on_the_tags_and_corrected_mode_reads_the_template():
    prompt, found = "a cat on the left of a dog", [("cat", LEFT, 1.0), ("dog", RIGHT, 1.0)]
    mistagged = score(prompt, *found, nouns=("left", "dog"))
    assert (mistagged.objects, mistagged.value) == (("left", "dog"), 0.0)
    assert score(prompt, *found, nouns=("left", "dog"), mode="corrected").value == 1.0
    with pytest.raises(
        ValueError, match="no word of the prompt 'a cat on the left of a dog' is tagged as a noun"
    ):
        score(prompt, *found, nouns=("none",))


@pytest.mark.parametrize(
    ("prompt", "objects", "locality"),
    [
        ("The Cats are on the top of the Dogs.", ("cat", "dog"), "on the top of"),
        ("an apple on top of a table", ("apple", "table"), "on top of"),
        ("a red cat on the left of a dog", ("cat", "dog"), "on the left of"),
        ("A photo of a cat near a dog", ("cat", "dog"), "near"),
    ],
)
def test_corrected_mode_reads_other_wordings(prompt, objects, locality):
    found = score(prompt, nouns=("cat", "dog", "photo"), mode="corrected")
    assert (found.objects, found.locality) == (objects, locality)


@pytest.mark.parametrize(
    ("prompt", "complex_prompt"),
    [
        ("a cat and a dog", False),
        ("The cat sleeps.", True),
        ("a cat near a dog next to a bee", True),
        ("near a bee", True),
    ],
)
def test_corrected_mode_leaves_prompts_unscored_that_it_cannot_read(prompt, complex_prompt):
    with pytest.raises(
        ValueError, match="does not say exactly one relation of two objects; known are on top of, "
    ):
        score(prompt, nouns=("cat", "dog", "bee"), complex_prompt=complex_prompt, mode="corrected")


@pytest.mark.parametrize(
    ("stem", "prepositions"), [("spatial", MORE_PREPOSITIONS), ("3d_spatial", DEPTH_PREPOSITIONS)]
)
def test_corrected_mode_reads_every_simple_prompt_without_tags(data_dir, stem, prepositions):
    lines = [
        line
        for part in ("train", "val")
        for line in (data_dir / "t2i_compbench" / f"{stem}_{part}.txt").read_text().splitlines()
    ]
    for line in filter(str.strip, lines):
        said = corrected(line, (), complex_prompt=False, prepositions=prepositions)
        assert said.locality in line and all(noun in line for noun in said.objects), line


# --- complex prompts


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("the/X cat/NOUN is/X on/X the/X left/NOUN of/X the/X dog/NOUN", ("cat", "dog")),
        ("Tom/PROPN is/X next/X to/X a/X big/ADJ girl/NOUN", ("Tom", "person")),
        ("cat/NOUN near/X New/PROPN York/PROPN ./PUNCT", ("cat", "York")),
        ("cat/NOUN near/X New/PROPN York/PROPN", (None, None)),
        ("cat/NOUN near/X Tom/PROPN and/X dog/NOUN", ("cat", "dog")),
        ("cat/NOUN Near/X dog/NOUN", (None, None)),
        ("cat/NOUN next/X to/X dog/NOUN near/X bee/NOUN", (None, None)),
        ("near/X dog/NOUN and/X bee/NOUN", (None, None)),
        ("next/X to/X", (None, None)),
        ("cat/NOUN on/X the/X top/NOUN of/X dog/NOUN", (None, None)),
        ("", (None, None)),
    ],
)
def test_objects_around_a_preposition(text, expected):
    assert around_preposition([Token(*word.split("/")) for word in text.split()]) == expected


# --- corrected mode beside a naive search

LABELS = ("person", "girl", "man", "cat", "cattle, cow")
some = st.tuples(st.sampled_from(LABELS), corners, st.floats(0.1, 1.0))


def best_of_all(found, locality, first, second):
    pairs = [
        0.25 * a[2] + 0.25 * b[2] + 0.5 * position(locality, a[1], b[1], mode="corrected", frame=FRAME)
        for a in found
        for b in found
        if matches(first, a[0]) and matches(second, b[0]) and a[1] != b[1]
    ]
    alone = [0.25 * a[2] for a in found if matches(first, a[0]) or matches(second, a[0])]
    return max(pairs or alone or [0.0])


@settings(max_examples=300, deadline=None)
@given(
    found=st.lists(some, max_size=12),
    locality=st.sampled_from(LOCALITIES),
    nouns=st.sampled_from([("girl", "man"), ("cat", "cow"), ("person", "person"), ("cow", "dog")]),
)
def test_the_best_pair_is_that_of_a_naive_search(found, locality, nouns):
    result = score(f"a {nouns[0]} {locality} a {nouns[1]}", *found, mode="corrected")
    assert result.value == pytest.approx(best_of_all(found, locality, *nouns), abs=1e-12)
    assert all(
        place is None or matches(noun, found[place][0])
        for noun, place in zip(nouns, result.found, strict=True)
    )
