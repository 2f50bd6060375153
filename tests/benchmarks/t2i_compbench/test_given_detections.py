"""Detections and depth maps given in files: looked up, mirrored, and refused where they cannot be
from the official programs.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from benchmarks.t2i_compbench.detections import GivenDepth, GivenDetections
from benchmarks.t2i_compbench.rules.frame import frame_size
from harness.types import Chain, Detections, Prompt, Sample, Tokens

PROMPT = "a dog on the left of a cat"
ROW = {
    "category": "2D-spatial",
    "prompt": PROMPT,
    "number": 0,
    "frame": [479, 479],
    "labels": ["dog", "cat", "dog"],
    "boxes": [[10.0, 20.0, 110.5, 220.0], [300, 20, 479, 479], [0, 0, 1, 1]],
    "scores": [0.9, 0.5, 0.5],
}


def sample(
    number: int = 0, *, text: str = PROMPT, category: str = "2D-spatial", size: tuple[int, int] = (64, 64)
) -> Sample:
    return Sample(
        prompt=Prompt(id=f"{category}/0000", text=text, category=category, number=number),
        chain=Chain(text="", objects=(), bare_text=""),
        image=Image.new("RGB", size),
        tokens=Tokens(prompt=(), chain=(), image=()),
        logprobs=(),
        seed=0,
    )


def detector(folder: Path, *rows: dict[str, Any] | str, labels: str | None = None) -> GivenDetections:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    (folder / "found.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return GivenDetections(file=str(folder / "found.jsonl"), name="UniDet RS200", labels=labels)


def test_a_row_is_found_by_category_prompt_and_number(tmp_path: Path) -> None:
    odd = {**ROW, "prompt": 'a "tall" café / bar\u2028', "number": 7, "labels": [], "boxes": [], "scores": []}
    given = detector(
        tmp_path,
        {**ROW, "number": 1},
        "",
        odd,
        {**ROW, "category": "complex", "labels": ["x", "y", "z"]},
        ROW,
    )
    asked = [
        sample(),
        sample(1),
        sample(7, text=odd["prompt"]),
        sample(category="complex"),
        sample(2),
        sample(7),
    ]
    first, second, empty, other, *lacking = given.detect(asked)
    assert (
        first
        == second
        == Detections(
            frame=(479, 479), labels=("dog", "cat", "dog"), boxes=first.boxes, scores=(0.9, 0.5, 0.5)
        )
    )
    assert first.boxes == ((10.0, 20.0, 110.5, 220.0), (300.0, 20.0, 479.0, 479.0), (0.0, 0.0, 1.0, 1.0))
    assert (empty.labels, other.labels) == ((), ("x", "y", "z"))
    file = tmp_path / "found.jsonl"
    assert lacking == [
        f"{file} has no detections of image {number} of {PROMPT!r} (2D-spatial)" for number in (2, 7)
    ]
    assert (given.name, given.external) == ("UniDet RS200", (str(file),))


def test_class_ids_become_the_texts_of_the_label_file(data_dir: Path, tmp_path: Path) -> None:
    labels = str(data_dir / "t2i_compbench" / "unidet_labels_722.json")
    given = detector(tmp_path, {**ROW, "labels": [160, 178, "dog"]}, labels=labels)
    assert given.detect([sample()])[0].labels == ("dog", "cat", "dog")
    assert given.external[1:] == (labels,)


def spans(side: int) -> st.SearchStrategy[list[float]]:
    return st.lists(st.floats(0, side, width=32), min_size=2, max_size=2, unique=True).map(sorted)


@given(boxes=st.lists(st.tuples(spans(480), spans(320)), max_size=5))
def test_mirroring_twice_is_nothing_and_once_is_left_for_right(
    tmp_path_factory: pytest.TempPathFactory, boxes: list
) -> None:
    row = {**ROW, "frame": [480, 320], "labels": ["dog"] * len(boxes), "scores": [0.5] * len(boxes)}
    row["boxes"] = [[x1, y1, x2, y2] for (x1, x2), (y1, y2) in boxes]
    given = detector(tmp_path_factory.mktemp("rows"), row)
    plain, mirrored = (given.detect([sample(size=(768, 512))], mirrored=flag)[0] for flag in (False, True))
    assert (mirrored.labels, mirrored.scores, mirrored.frame) == (plain.labels, plain.scores, plain.frame)
    for before, after in zip(plain.boxes, mirrored.boxes, strict=True):
        assert after == (480 - before[2], before[1], 480 - before[0], before[3])
        assert (480 - after[2], after[1], 480 - after[0], after[3]) == pytest.approx(before)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"boxes": [[10, 20, 5, 220], *ROW["boxes"][1:]]},
            r"the box \[10\.0, 20\.0, 5\.0, 220\.0\] is not x1, y1, x2, y2",
        ),
        ({"boxes": [*ROW["boxes"][:2], [0, 9, 1, 9]]}, r"the box \[0\.0, 9\.0, 1\.0, 9\.0\] is not"),
        (
            {"boxes": [*ROW["boxes"][:2], [0, 0, float("nan"), 9]]},
            r"the box \[0\.0, 0\.0, nan, 9\.0\] is not",
        ),
        (
            {"boxes": [*ROW["boxes"][:2], [0, 0, float("inf"), 9]]},
            r"the box \[0\.0, 0\.0, inf, 9\.0\] is not",
        ),
        ({"boxes": [*ROW["boxes"][:2], [500, 0, 900, 9]]}, "within its frame of 479 x 479"),
        ({"boxes": [*ROW["boxes"][:2], [0, 0, 9]]}, "each box must be x1, y1, x2, y2"),
        ({"boxes": [[0, 0, 9]] * 3}, "each box must be x1, y1, x2, y2"),
        ({"boxes": ROW["boxes"][:2]}, "3 labels, 2 boxes and 3 scores"),
        ({"boxes": None}, "not iterable"),
        ({"scores": [0.9, 0.5]}, "3 labels, 3 boxes and 2 scores"),
        ({"scores": [0.5, 0.9, 0.5]}, "the score 0.9 comes after 0.5: detections stand by falling score"),
        ({"scores": [0.9, 0.5, 0.1]}, "the score 0.1 is not above 0.1 and at most 1"),
        ({"scores": [1.5, 0.5, 0.2]}, "the score 1.5 is not above 0.1"),
        ({"scores": [0.9, float("nan"), 0.2]}, "the score nan is not above 0.1"),
        ({"scores": [0.9, None, 0.2]}, "NoneType"),
        ({"frame": [479]}, r"frame \[479\] must be \[width, height\]"),
        ({"frame": [479.5, 479]}, r"must be \[width, height\] in pixels"),
        ({"frame": [0, 479]}, r"must be \[width, height\] in pixels"),
        ({"labels": ["dog", 5, "dog"]}, "the label 5 is a class id: give the label file with labels=FILE"),
        ({"labels": ["dog", None, "dog"]}, "the label None is neither a text nor a class id"),
        ({"number": -1}, "number -1 a whole number from 0"),
        ({"number": True}, "number True a whole number from 0"),
        ({"prompt": 5}, "prompt 5 must be texts"),
    ],
)
def test_a_row_that_cannot_be_is_refused_with_its_line(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    given = detector(tmp_path, {**ROW, "number": 3}, {**ROW, **change})
    with pytest.raises(ValueError, match=rf"line 2 of .*found\.jsonl is no row of detections: .*({said})"):
        given.load()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "Expecting"),
        ("[]", "it is no JSON object"),
        (json.dumps({name: ROW[name] for name in ROW if name != "frame"}), "has no 'frame'"),
    ],
)
def test_a_line_that_is_no_row(tmp_path: Path, line: str, said: str) -> None:
    with pytest.raises(ValueError, match=rf"line 1 of .* is no row of detections: {said}"):
        detector(tmp_path, line).load()


def test_a_class_id_that_is_none(data_dir: Path, tmp_path: Path) -> None:
    labels = str(data_dir / "t2i_compbench" / "unidet_labels_722.json")
    for number in (722, -1):
        with pytest.raises(ValueError, match=f"there is no class id {number}, they are 0 to 721"):
            detector(tmp_path, {**ROW, "labels": ["dog", number, "cat"]}, labels=labels).load()


def test_two_rows_of_one_image_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=rf"line 3 of .* is the second row of image 0 of '{PROMPT}' \(2D-spatial\): keep one"
    ):
        detector(tmp_path, ROW, {**ROW, "number": 1}, ROW).load()


def test_detections_of_other_images_are_none_and_both_frames_are_told(tmp_path: Path) -> None:
    [reason] = detector(tmp_path, ROW).detect([sample(size=(768, 512))])
    assert (
        "has 768 x 512 pixels, which the programs make into 480 x 320" in reason
        and "in a frame of 479 x 479" in reason
    )


def test_an_image_that_has_no_frame_is_unscored(tmp_path: Path) -> None:
    [reason] = detector(tmp_path, ROW).detect([sample(size=(2000, 1))])
    assert isinstance(reason, str) and "2000 x 1" in reason


def test_missing_files_are_refused_when_planning(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"detections of X: there is no file .*no\.jsonl"):
        GivenDetections(file=str(tmp_path / "no.jsonl"), name="X", labels=None)
    (tmp_path / "rows").write_text("")
    with pytest.raises(ValueError, match=r"there is no file .*labels\.csv"):
        GivenDetections(file=str(tmp_path / "rows"), name="X", labels=str(tmp_path / "labels.csv"))
    with pytest.raises(ValueError, match=r"depth of Y: there is no folder .*nowhere"):
        GivenDepth(folder=str(tmp_path / "nowhere"), name="Y")


def test_rows_in_any_order_are_those_that_a_plain_reader_finds(tmp_path: Path) -> None:
    chance = random.Random(0)
    rows = []
    for number in range(60):
        size = (chance.randint(20, 900), chance.randint(20, 900))
        width, height = frame_size(*size)
        corners = [
            (chance.random() * width / 2, chance.random() * height / 2) for _ in range(chance.randint(0, 6))
        ]
        rows.append({
            **ROW,
            "prompt": f"{'é' * (number % 5)} {number // 10}",
            "number": number % 10,
            "frame": [width, height],
            "labels": [chance.choice("abc") for _ in corners],
            "boxes": [[x, y, x + 1, y + 1] for x, y in corners],
            "scores": sorted((0.2 + 0.8 * chance.random() for _ in corners), reverse=True),
            "size": size,
        })  # fmt: skip
    given = detector(tmp_path, *rows)
    chance.shuffle(rows)
    for row in rows:
        [found] = given.detect([sample(row["number"], text=row["prompt"], size=row["size"])])
        assert [found.frame, found.labels, found.scores] == [
            tuple(row["frame"]),
            tuple(row["labels"]),
            tuple(row["scores"]),
        ]
        assert found.boxes == tuple(map(tuple, row["boxes"]))


def write_maps(
    folder: Path, text: str, numbers: list[int], *, size: tuple[int, int] = (64, 48), mode: str = "L"
) -> None:
    folder.mkdir(exist_ok=True)
    for number in numbers:
        picture = Image.new(mode, size)
        picture.putpixel((0, 0), number if mode == "L" else (number,) * 3)
        picture.save(folder / f"{text}_{number:06d}.png")


def test_depth_maps_are_found_by_prompt_and_the_order_of_their_numbers(tmp_path: Path) -> None:
    write_maps(tmp_path / "depth", "a cat behind a dog", [30, 31, 32])
    write_maps(tmp_path / "depth", PROMPT, [9, 100, 11])
    (tmp_path / "depth" / "notes.txt").write_text("")
    given = GivenDepth(folder=str(tmp_path / "depth"), name="DPT hybrid")
    given.load()
    found = given.depth([sample(number, size=(64, 48)) for number in (2, 0, 1)])
    assert [picture.getpixel((0, 0)) for picture in found] == [100, 9, 11]
    assert {(picture.mode, picture.size) for picture in found} == {("L", (64, 48))}
    [mirrored] = given.depth([sample(2, size=(64, 48))], mirrored=True)
    assert mirrored.getpixel((63, 0)) == 100 and ImageOps.mirror(mirrored).tobytes() == found[0].tobytes()
    assert (given.name, given.external) == ("DPT hybrid", (str(tmp_path / "depth"),))


def test_a_depth_map_that_is_not_there_or_cannot_be_read_is_a_reason(tmp_path: Path) -> None:
    write_maps(tmp_path, "a cat behind a dog", [0, 1])
    write_maps(tmp_path, PROMPT, [2])
    write_maps(tmp_path, "a bee hidden by a key", [4, 5])
    cut = tmp_path / "a bee hidden by a key_000005.png"
    cut.write_bytes(cut.read_bytes()[:40])
    given = GivenDepth(folder=str(tmp_path), name="Y")
    texts = [(0, PROMPT), (0, "no such"), (2, "a cat behind a dog"), (1, "a bee hidden by a key")]
    gap, none, beyond, damaged = given.depth(
        [sample(number, text=text, size=(64, 48)) for number, text in texts]
    )
    assert gap == f"{tmp_path} has 1 depth images of {PROMPT!r}, and 2 of others"
    assert none == f"{tmp_path} has 0 depth images of 'no such', and 2 of others"
    assert beyond == f"{tmp_path} has 2 depth images of 'a cat behind a dog', none of image 2"
    assert damaged.startswith(f"{cut} cannot be read as an image (")


@pytest.mark.parametrize(
    ("mode", "size", "said"),
    [("RGB", (64, 48), "mode RGB and 64 x 48"), ("L", (48, 64), "mode L and 48 x 64")],
)
def test_pictures_that_are_no_depth_of_these_images(
    tmp_path: Path, mode: str, size: tuple[int, int], said: str
) -> None:
    write_maps(tmp_path, PROMPT, [0], mode=mode, size=size)
    [reason] = GivenDepth(folder=str(tmp_path), name="Y").depth([sample(size=(64, 48))])
    assert f"has {said} pixels, its image has 64 x 48: give 8-bit grey images" in reason


def test_a_folder_without_depth_maps_and_one_with_two_of_an_image(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no PROMPT_000000\.png"):
        GivenDepth(folder=str(tmp_path), name="Y").load()
    write_maps(tmp_path, PROMPT, [1])
    (tmp_path / f"{PROMPT}_1.png").write_bytes(b"")
    with pytest.raises(ValueError, match=rf"are both image 1 of '{PROMPT}': keep one"):
        GivenDepth(folder=str(tmp_path), name="Y").load()
