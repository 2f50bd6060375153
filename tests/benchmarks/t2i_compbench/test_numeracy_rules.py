"""Numeracy: which boxes are one thing, what a prompt asks for, and the score, in both modes."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.mode import Mode
from benchmarks.t2i_compbench.rules.numeracy import Nouns, NumeracyScore, score_numeracy, without_duplicates
from harness.types import Detections

NOUNS = Nouns(
    singulars=(
        "cat",
        "car",
        "egg",
        "fish",
        "goldfish",
        "girl",
        "ship",
        "painting",
        "television",
        "bear",
        "fish",
    ),
    plurals=(
        "cats",
        "cars",
        "eggs",
        "fish",
        "goldfish",
        "girls",
        "ships",
        "paintings",
        "televisions",
        "bears",
        "fish",
    ),
)
MODES: tuple[Mode, ...] = ("official", "corrected")

Box4 = tuple[float, float, float, float]


def apart(count: int) -> tuple[Box4, ...]:
    """Boxes that do not meet."""
    return tuple((40.0 * place, 0.0, 40.0 * place + 20, 20.0) for place in range(count))


def found(*labels: str, boxes: tuple[Box4, ...] | None = None) -> Detections:
    return Detections(
        frame=(479, 479), labels=labels, boxes=boxes or apart(len(labels)), scores=(0.5,) * len(labels)
    )


def score(prompt: str, *labels: str, mode: Mode, nouns: Nouns = NOUNS) -> NumeracyScore:
    return score_numeracy(prompt.split(), found(*labels), nouns, mode=mode)


@pytest.mark.parametrize("mode", MODES)
def test_all_there_none_there_and_the_wrong_number(mode: Mode) -> None:
    perfect = score("two cats and a car", "cat", "car", "tree", "cat", mode=mode)
    assert (perfect.value, perfect.asked, perfect.counted, perfect.kept) == (
        1.0,
        (("cat", 2), ("car", 1)),
        (2, 1),
        (0, 1, 2, 3),
    )
    assert score("two cats and a car", "tree", mode=mode).value == 0.0
    assert score("two cats and a car", mode=mode).kept == ()
    assert score("two cats and a car", "cat", "cat", "cat", "car", mode=mode).value == 0.75
    assert score("two cats and a car", "car", mode=mode).value == 0.5


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("prompt", ["", "cats and cars", "two dogs", "many cats"])
def test_a_prompt_that_asks_for_nothing_listed_is_refused(prompt: str, mode: Mode) -> None:
    with pytest.raises(ValueError, match="asks for nothing that can be counted"):
        score(prompt, "cat", mode=mode)


@pytest.mark.parametrize("mode", MODES)
def test_a_word_with_one_form_counts_in_both_numbers(mode: Mode) -> None:
    assert score("two fish", "fish", "fish", mode=mode).value == 1.0
    assert score("one fish", "fish", mode=mode).asked == (("fish", 1),)


def test_a_number_word_at_the_end_stops_the_official_script_alone() -> None:
    with pytest.raises(ValueError, match="ends in the number word 'one'"):
        score("two cats and one", "cat", mode="official")
    assert score("two cats and one", "cat", "cat", mode="corrected").value == 1.0


def test_a_singular_after_a_number_stops_the_official_script_alone() -> None:
    with pytest.raises(ValueError, match="two 'cat'"):
        score("two cat", "cat", mode="official")
    assert score("two cat", "cat", "cat", mode="corrected").value == 1.0


def test_an_article_before_a_plural_shifts_the_official_counts() -> None:
    prompt = "a cats , two cars , three eggs"
    labels = ["cat"] * 2 + ["car"] * 3
    official = score(prompt, *labels, mode="official")
    assert official.asked == (("cat", 2), ("car", 3), ("egg", None))
    assert official.value == pytest.approx(2 / 3), "the shifted counts are right, the egg is not there"
    with pytest.raises(ValueError, match="stops at 'egg', whose count it lost"):
        score(prompt, *labels, "egg", mode="official")
    corrected = score(prompt, *labels, "egg", mode="corrected")
    assert corrected.asked == (("cat", 1), ("car", 2), ("egg", 3))
    assert corrected.value == 0.5


def test_one_before_a_plural_is_one_in_both_modes() -> None:
    assert [score("one cats", "cat", mode=mode).asked for mode in MODES] == [(("cat", 1),)] * 2


def test_capitals_are_no_number_words_to_the_official_parser() -> None:
    assert score("Two cats and one car", mode="official").asked == (("car", 1),)
    assert score("Two cats and one car", mode="corrected").asked == (("cat", 2), ("car", 1))


def test_nouns_of_two_words() -> None:
    nouns = Nouns(singulars=("teddy bear", "bear"), plurals=("teddy bears", "bears"))
    for mode in MODES:
        assert score("two teddy bears", mode=mode, nouns=nouns).asked == (("teddy bear", 2),)
        assert score("a teddy bear", mode=mode, nouns=nouns).asked == (("teddy bear", 1),)
        assert score("a bear", mode=mode, nouns=nouns).asked == (("bear", 1),)
    odd = "two teddy bear , a teddy bears"
    assert score(odd, mode="official", nouns=nouns).asked == (("teddy bear", 1), ("teddy bears", 1))
    assert score(odd, mode="corrected", nouns=nouns).asked == (("teddy bear", 2), ("teddy bear", 1))


@pytest.mark.parametrize(
    ("prompt", "label"),
    [
        ("a girl", "person"),
        ("a ship", "boat"),
        ("a goldfish", "fish"),
        ("a painting", "picture"),
        ("a painting", "picture/frame"),
    ],
)
def test_nouns_that_the_official_script_renames(prompt: str, label: str) -> None:
    assert [score(prompt, label, mode=mode).value for mode in MODES] == [1.0, 1.0]


def test_a_television_is_no_tv_to_the_official_script() -> None:
    assert [score("a television", "tv", mode=mode).value for mode in MODES] == [0.0, 1.0]


def test_letters_within_a_label_count_officially() -> None:
    """Q14: a carrot is a car, where there is no car."""
    assert [score("a car", "carrot", mode=mode).value for mode in MODES] == [1.0, 0.0]
    assert [score("a car", "carrot", "car", mode=mode).value for mode in MODES] == [1.0, 1.0]
    assert [score("two cars", "carrot", "car", mode=mode).value for mode in MODES] == [0.5, 0.5], (
        "no renaming beside an exact label"
    )


def test_renaming_also_holds_for_later_nouns_officially() -> None:
    """Q14: the eggcars are taken for cars, and are eggs no longer."""
    official = score("two cars and two eggs", "eggcar", "eggcar", mode="official")
    assert (official.value, official.counted) == (0.5, (2, 0))
    assert score("two eggs and two cars", "eggcar", "eggcar", mode="official").counted == (2, 0)


def test_a_box_under_two_labels_of_a_noun_is_one_thing_in_corrected_mode() -> None:
    box: Box4 = (0.0, 0.0, 100.0, 100.0)
    other: Box4 = (200.0, 200.0, 300.0, 300.0)
    detections = found("person", "girl", "girl", boxes=(box, box, other))
    counted = {mode: score_numeracy(["two", "girls"], detections, NOUNS, mode=mode).counted for mode in MODES}
    assert counted == {"official": (1,), "corrected": (2,)}


@pytest.mark.parametrize(
    ("other", "duplicate"),
    [
        ((0.0, 0.0, 9.0, 9.0), True),
        (
            (0.0, 0.0, 9.0, 8.0),
            True,
        ),  # 90 of 100 pixels: not more than 0.9 of the larger, but all of the smaller
        ((0.0, 0.0, 9.0, 99.0), True),  # the first lies in it
        ((2.0, 2.0, 4.0, 4.0), True),
        ((0.0, 1.0, 9.0, 10.0), False),  # 0.9 of either
        ((9.0, 0.0, 18.0, 9.0), False),  # one column
        ((10.0, 0.0, 19.0, 9.0), False),
    ],
)
def test_what_a_duplicate_is(other: Box4, duplicate: bool) -> None:
    boxes = [(0.0, 0.0, 9.0, 9.0), other]
    assert without_duplicates(boxes, ["cat", "cat"]) == ((0,) if duplicate else (0, 1))
    assert without_duplicates(boxes, ["cat", "car"]) == (0, 1), "only within a label"


def naive(boxes: list[Box4], labels: list[str]) -> tuple[int, ...]:
    """Every box against every earlier one that was left in, whatever its label, as the rule is told."""

    def area(box: Box4) -> float:
        return (box[2] - box[0] + 1) * (box[3] - box[1] + 1)

    def same(one: Box4, other: Box4) -> bool:
        width = max(0, min(one[2], other[2]) - max(one[0], other[0]) + 1)
        height = max(0, min(one[3], other[3]) - max(one[1], other[1]) + 1)
        shared = width * height
        return (
            max(shared / (area(one) + area(other) - shared), shared / area(one), shared / area(other)) > 0.9
        )

    left: list[int] = []
    for place, (box, label) in enumerate(zip(boxes, labels, strict=True)):
        if not any(same(box, boxes[earlier]) and label == labels[earlier] for earlier in left):
            left.append(place)
    return tuple(left)


@st.composite
def crowds(draw: st.DrawFn) -> tuple[list[Box4], list[str]]:
    """Boxes on a coarse grid, so that many meet and many fall on the limit."""
    side = st.integers(0, 24).map(float)
    corners = st.tuples(side, side, side, side).map(
        lambda at: (min(at[0], at[2]), min(at[1], at[3]), max(at[0], at[2]), max(at[1], at[3]))
    )
    pairs = draw(st.lists(st.tuples(corners, st.sampled_from("ab")), max_size=25))
    return [box for box, _ in pairs], [label for _, label in pairs]


@given(crowds())
@settings(max_examples=300, deadline=None)
def test_duplicates_are_those_of_the_rule_as_it_is_told(crowd: tuple[list[Box4], list[str]]) -> None:
    assert without_duplicates(*crowd) == naive(*crowd)


@given(crowds())
@settings(deadline=None)
def test_what_is_left_has_no_duplicates(crowd: tuple[list[Box4], list[str]]) -> None:
    boxes, labels = crowd
    left = without_duplicates(boxes, labels)
    again = without_duplicates([boxes[place] for place in left], [labels[place] for place in left])
    assert again == tuple(range(len(left)))


def test_an_image_of_many_detections_takes_little_time() -> None:
    draw = random.Random(0)
    corners = [(draw.uniform(0, 380), draw.uniform(0, 380)) for _ in range(100)]
    boxes = tuple((x, y, x + draw.uniform(5, 99), y + draw.uniform(5, 99)) for x, y in corners)
    detections = found(*(draw.choice("abcdefghijklmnopqrst") for _ in boxes), boxes=boxes)
    start = time.process_time()
    for _ in range(300):
        score_numeracy(["two", "cats", "and", "a", "car"], detections, NOUNS, mode="official")
    assert time.process_time() - start < 1, "0.04 s on an idle core"


@given(
    st.lists(st.sampled_from(["cat", "car", "egg", "carrot", "tree"]), max_size=8),
    st.permutations(["two cats", "a car", "three eggs"]),
)
def test_a_score_is_made_of_halves_of_shares(labels: list[str], phrases: list[str]) -> None:
    for mode in MODES:
        value = score(" and ".join(phrases), *labels, mode=mode).value
        assert 0 <= value <= 1 + 1e-12
        assert value * 6 == pytest.approx(round(value * 6))


def test_the_list_of_nouns_is_read_as_it_is_published(tmp_path: Path) -> None:
    file = tmp_path / "new_objects.txt"
    file.write_bytes(b"Cat - cats\r\n mouse  -  Mice \nfish - fish")
    nouns = Nouns.read(file)
    assert nouns == Nouns(singulars=("cat", "mouse", "fish"), plurals=("cats", "mice", "fish"))
    assert nouns.singular("mice") == "mouse" and "mice" in nouns and "mouses" not in nouns
    file.write_text("cat - cats\ndogs\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"line 2 .*'dogs'.*singular - plural"):
        Nouns.read(file)


def test_the_published_list_of_nouns(data_dir: Path) -> None:
    file = data_dir / "t2i_compbench" / "new_objects.txt"
    if not file.is_file():
        pytest.skip(f"no {file}: set DATA_DIR")
    nouns = Nouns.read(file)
    assert (len(nouns.singulars), len(set(nouns.singulars))) == (101, 88)


@pytest.mark.parametrize("mode", MODES)
def test_the_official_prompts_can_all_be_counted(data_dir: Path, mode: Mode) -> None:
    from benchmarks.t2i_compbench.language.tokens import tokenize

    folder = data_dir / "t2i_compbench"
    if not folder.is_dir():
        pytest.skip(f"no prompt files of T2I-CompBench at {folder}: set DATA_DIR")
    nouns = Nouns.read(folder / "new_objects.txt")
    prompts = [
        line
        for name in ("numeracy_train.txt", "numeracy_val.txt")
        for line in (folder / name).read_text(encoding="utf-8").splitlines()
    ]
    asked = [score_numeracy(tokenize(prompt), found(), nouns, mode=mode).asked for prompt in prompts]
    assert len(asked) == 1000 and all(count for objects in asked for _, count in objects)
