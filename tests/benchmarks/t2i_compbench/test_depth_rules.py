import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.t2i_compbench.language.tokens import Token
from benchmarks.t2i_compbench.rules.depth import nearness, position_3d, score_3d
from harness.types import Detections

SIDE = 40
FRAME = (SIDE, SIDE)
FRONT, BACK = (
    (2.0, 2.0, 12.0, 12.0),
    (20.0, 20.0, 30.0, 30.0),
)  # on the diagonal: the same with x and y exchanged


def depth_map(*near, side=SIDE):
    """0.1 everywhere but 0.9 within the boxes."""
    depth = np.full((side, side), 0.1, dtype=np.float32)
    for x1, y1, x2, y2 in near:
        depth[int(y1) : int(y2), int(x1) : int(x2)] = 0.9
    return depth


def score(prompt, *found, depth=None, mode="official", nouns=None):
    words = prompt.split()
    nouns = (words[1], words[-1]) if nouns is None else nouns
    tokens = [Token(word, "NOUN" if word in nouns else "X") for word in words]
    labels, boxes, scores = zip(*found, strict=True) if found else ((), (), ())
    given_ = Detections(frame=FRAME, labels=labels, boxes=boxes, scores=scores)
    return score_3d(prompt, tokens, given_, depth_map(FRONT) if depth is None else depth, mode=mode)


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


# --- both modes


@pytest.mark.parametrize("mode", ["official", "corrected"])
@pytest.mark.parametrize("relation", ["behind", "hidden by"])
def test_a_perfect_image(mode, relation):
    whole, near = (2.0, 2.0, 12.0, 12.0), (2.0, 2.0, 12.0, 10.0)
    found = score(
        f"a dog {relation} a cat",
        ("dog", whole, 1.0),
        ("cat", near, 1.0),
        depth=depth_map((2, 2, 10, 10)),
        mode=mode,
    )
    assert (found.value, found.found, found.objects, found.locality) == (
        1.0,
        (0, 1),
        ("dog", "cat"),
        relation.split()[0],
    )


@pytest.mark.parametrize("mode", ["official", "corrected"])
def test_the_wrong_order_is_half_a_score_at_most(mode):
    assert score("a cat behind a dog", ("cat", FRONT, 1.0), ("dog", BACK, 1.0), mode=mode).value == 0.5
    assert score("a cat behind a dog", ("cat", FRONT, 0.8), mode=mode).value == pytest.approx(0.2)
    assert score("a cat behind a dog", mode=mode).value == 0.0


@pytest.mark.parametrize("mode", ["official", "corrected"])
def test_things_at_one_depth_are_in_no_order(mode):
    flat = np.full((SIDE, SIDE), 1 / 3, dtype=np.float32)
    for relation in ("in front of", "behind", "hidden"):
        assert position_3d(relation, (0, 0, 7, 9), (0, 0, 9, 11), flat, mode=mode) == 0.0


@pytest.mark.parametrize("mode", ["official", "corrected"])
def test_other_relations_are_judged_in_the_plane(mode):
    assert (
        position_3d("on the left of", (0, 10, 5, 15), (30, 10, 35, 15), depth_map(), mode=mode, frame=FRAME)
        == 1.0
    )
    assert position_3d(None, FRONT, BACK, depth_map(), mode=mode, frame=FRAME) == 0.0


def test_a_depth_map_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"a depth map of shape \(20, 40\) for a frame of 40 x 40 pixels"):
        score("a cat behind a dog", depth=np.zeros((20, 40)))


def test_prompts_that_cannot_be_read():
    with pytest.raises(ValueError, match="is tagged as a noun"):
        score("a cat behind a dog", nouns=())
    assert score("a cat behind a dog", nouns=(), mode="corrected").objects == ("cat", "dog")
    with pytest.raises(ValueError, match="known are in front of, behind, hidden by, hidden"):
        score("a cat near a dog", mode="corrected")


# --- the quirks of official mode, by number, and what corrected mode makes of them


def test_q10_labels_are_searched_for_the_noun():
    within = ("cattle, cow", FRONT, 1.0), ("hot dog", BACK, 1.0)
    assert score("a cat in front of a dog", *within).found == (0, 1)
    assert score("a cat in front of a dog", *within, mode="corrected").found == (None, None)
    aliases = ("cattle, cow", FRONT, 1.0), ("loveseat, couch", BACK, 1.0)
    assert score("a cow in front of a sofa", *aliases).found == (0, None)
    assert score("a cow in front of a sofa", *aliases, mode="corrected").found == (0, 1)


def test_q10_what_was_found_first_is_overwritten_until_the_other_is_found():
    found = ("cat", FRONT, 0.9), ("cat", BACK, 0.8), ("dog", BACK, 0.7), ("cat", FRONT, 0.6)
    assert score("a cat in front of a dog", *found).found == (1, 2)
    assert score("a cat in front of a dog", *found, mode="corrected").found == (0, 2)
    assert score("a cat in front of a bee", *found).found == (0, None)
    assert score("a man in front of a girl", ("person", FRONT, 0.9), ("person", BACK, 0.8)).found == (0, 0)


def test_q11_x_and_y_are_exchanged_when_depth_is_averaged():
    upper_right, lower_left = (20.0, 0.0, 30.0, 10.0), (0.0, 20.0, 10.0, 30.0)
    depth = depth_map(upper_right)
    assert (
        nearness(depth, upper_right, "corrected")
        == nearness(depth, lower_left, "official")
        == pytest.approx(0.9)
    )
    assert (
        nearness(depth, lower_left, "corrected")
        == nearness(depth, upper_right, "official")
        == pytest.approx(0.1)
    )


def test_q12_things_apart_are_in_no_order():
    assert position_3d("in front of", FRONT, BACK, depth_map(FRONT)) == 0.0
    assert position_3d("in front of", FRONT, BACK, depth_map(FRONT), mode="corrected") == 1.0
    quarter = (0.0, 0.0, 20.0, 20.0), (0.0, 0.0, 10.0, 10.0)
    assert position_3d("behind", *quarter, depth_map((0, 0, 10, 10))) == 0.5
    half = (0.0, 0.0, 20.0, 20.0), (0.0, 0.0, 20.0, 10.0)
    assert position_3d("behind", *half, depth_map((0, 0, 10, 10))) == 0.0
    assert position_3d("behind", *half, depth_map((0, 0, 20, 10)), mode="corrected") == 1.0


@pytest.mark.parametrize("mode", ["official", "corrected"])
def test_q13_there_is_no_cut(mode):
    found = score("a cat in front of a dog", ("cat", BACK, 0.5), ("dog", FRONT, 0.5), mode=mode)
    assert found.value == found.before_cut == pytest.approx(0.25)


def test_boxes_of_no_pixel_have_no_depth_in_official_mode():
    thin = (10.2, 10.2, 10.9, 30.0)
    assert np.isnan(nearness(depth_map(), thin, "official"))
    assert nearness(depth_map(), thin, "corrected") == pytest.approx(0.1)
    for relation in ("in front of", "behind", "hidden"):
        assert position_3d(relation, thin, FRONT, depth_map(FRONT)) == 0.0
    assert position_3d("behind", thin, FRONT, depth_map(FRONT), mode="corrected") == 1.0
    assert nearness(depth_map(), (90.0, -5.0, 99.0, -2.0), "corrected") == pytest.approx(
        0.1
    )  # outside: the nearest pixel


# --- beside naive references


def naive_scan(first, second, labels):
    """Word by word as section 7 has it."""
    present = [any(noun in label for label in labels) for noun in (first, second)]
    places = [None, None]
    if all(present):
        for place, label in enumerate(labels):
            if first in label:
                places[0] = place
            if second in label:
                places[1] = place
            if places[0] is not None and places[1] is not None:
                break
    for which, noun in enumerate((first, second)):
        if present[which] and not all(present):
            places[which] = next(place for place, label in enumerate(labels) if noun in label)
    return tuple(places)


@settings(deadline=None)
@given(st.lists(st.sampled_from(["cat", "cattle, cow", "dog", "hot dog", "bee", "dog and cat"]), max_size=8))
def test_the_scan_is_the_naive_one(labels):
    found = [(label, FRONT, 0.9 - 0.1 * place) for place, label in enumerate(labels)]
    assert score("a cat behind a dog", *found).found == naive_scan("cat", "dog", labels)


spans = st.tuples(st.integers(0, 39), st.integers(1, 20)).map(
    lambda span: (float(span[0]), float(min(span[0] + span[1], 40)))
)


@settings(deadline=None, max_examples=50)
@given(x=spans, y=spans, seed=st.integers(0, 9))
def test_the_mean_within_a_box(x, y, seed):
    depth = np.random.default_rng(seed).random((40, 40), dtype=np.float32)
    pixels = [
        float(depth[row, column])
        for row in range(40)
        for column in range(40)
        if y[0] <= row < y[1] and x[0] <= column < x[1]
    ]
    box = (x[0], y[0], x[1], y[1])
    assert nearness(depth, box, "corrected") == pytest.approx(sum(pixels) / len(pixels), abs=1e-12)
    assert nearness(depth.T, box, "official") == pytest.approx(sum(pixels) / len(pixels), abs=1e-12)
