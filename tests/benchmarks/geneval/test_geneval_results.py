"""Official result files: written as pandas writes them, read back, and refused where they are not
what they seem.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.geneval.results import Result, details, filename, read, write
from benchmarks.geneval.rules import keep
from harness.types import Detections

COW = {"tag": "single_object", "include": [{"class": "cow", "count": 1}], "prompt": "a photo of a cow"}
CUP = {
    "tag": "colors",
    "include": [{"class": "cup", "count": 1, "color": "red"}],
    "prompt": "a photo of a red cup",
}
BOTH = [COW, CUP]
FOUND = Detections(
    frame=(64, 48),
    labels=("cow", "cup", "cow"),
    boxes=((0.1, 2, 30, 40), (5, 5, 9, 9), (1, 1, 4, 4)),
    scores=(0.95, 0.2, 0.4),
)
CUP_REASON = "expected red cup>=1, found 0 red; and 1 blue"


def result(line: dict[str, Any], name: str, *, correct: bool = False, reason: str = CUP_REASON) -> Result:
    kept = details(FOUND, keep(FOUND, line["tag"]))
    return Result(
        filename=name, metadata=line, correct=correct, reason="" if correct else reason, details=kept
    )


def all_of(each: int = 2) -> list[Result]:
    return [
        result(line, filename(place, number), correct=not number)
        for place, line in enumerate(BOTH)
        for number in range(each)
    ]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "official" / "results.jsonl"


def test_details_are_what_was_kept_in_float32() -> None:
    first, second = details(FOUND, keep(FOUND, "single_object"))["cow"]
    assert first == [float(np.float32(0.1)), 2.0, 30.0, 40.0, float(np.float32(0.95))] and second[4] == float(
        np.float32(0.4)
    )


def test_a_line_is_the_one_that_pandas_writes(file: Path) -> None:
    pandas = pytest.importorskip("pandas")
    odd = {**COW, "prompt": 'ein "Café"/\\ 1'}
    results = [
        result(COW, "a/00000/samples/00000.png", correct=True),
        result(odd, "ü/1.png", reason="one\ntwo"),
    ]
    write(file, results)
    rows = [
        {
            **{
                "filename": one.filename,
                "tag": one.metadata["tag"],
                "prompt": one.metadata["prompt"],
                "correct": one.correct,
            },
            **{
                "reason": one.reason,
                "metadata": json.dumps(one.metadata),
                "details": json.dumps(one.details),
            },
        }
        for one in results
    ]
    assert file.read_text().rstrip("\n") == pandas.DataFrame(rows).to_json(
        orient="records", lines=True
    ).rstrip("\n")


def test_results_come_back_as_they_were(file: Path) -> None:
    write(file, all_of())
    assert list(read(file, BOTH, range(2)).items()) == list(
        zip([(0, 0), (0, 1), (1, 0), (1, 1)], all_of(), strict=True)
    )
    assert list(read(file, BOTH, [1])) == [(1, 0), (1, 1)]


def test_images_are_those_of_their_prompt_wherever_they_lie(file: Path) -> None:
    """Folders in any order, numbers that do not begin at 0."""
    names = {
        "/data/00007/samples/0003.png": CUP,
        "7/samples/10.png": COW,
        "C:\\7\\samples\\9.png": COW,
        "0003/samples/2.png": CUP,
    }
    write(file, [result(line, name) for name, line in names.items()])
    found = read(file, BOTH, [1, 0])
    assert {key: one.filename for key, one in found.items()} == {
        (0, 0): "C:\\7\\samples\\9.png",
        (0, 1): "7/samples/10.png",
        (1, 0): "0003/samples/2.png",
        (1, 1): "/data/00007/samples/0003.png",
    }


def changed(file: Path, **changes: Any) -> None:
    """The second line with other values; None takes one out."""
    write(file, all_of())
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    rows[1] = {name: value for name, value in {**rows[1], **changes}.items() if value is not None}
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"correct": 1}, "no JSON object with correct true or false"),
        ({"reason": None}, "its reason is None, and not a text"),
        ({"metadata": COW}, "its metadata is {'tag': 'single_object'"),
        ({"tag": "counting"}, "its metadata are not those of its tag and prompt"),
        (
            {"metadata": json.dumps({**COW, "include": []})},
            "'a photo of a cow' has other metadata here",
        ),
        (
            {"metadata": json.dumps({**COW, "include": [], "prompt": "a cow"}), "prompt": "a cow"},
            "'a cow' is none of the 2 prompts here, nor a rewritten one: its metadata has the",
        ),
        ({"metadata": "cow"}, "Expecting value"),
        ({"details": "[]"}, "its details are not lists"),
        ({"details": '{"cow": [[1, 2]]}'}, "its details are not lists"),
        ({"details": '{"cow": [[1, 2, 3, 4, "5"]]}'}, "its details hold '5'"),
        (
            {"filename": "00000/samples/00000.png"},
            "it is of the image that 00000/samples/00000.png is of: keep one",
        ),
        ({"filename": "cow.png"}, "its filename is 'cow.png'"),
    ],
)
def test_a_line_that_is_no_result_is_refused_with_its_number(
    file: Path, changes: dict[str, Any], said: str
) -> None:
    changed(file, **changes)
    with pytest.raises(
        ValueError, match=r"line 2 of .*results\.jsonl is no result of these prompts: "
    ) as refused:
        read(file, BOTH, range(2))
    assert said in str(refused.value)


def test_a_rewritten_prompt_is_the_one_with_its_objects(file: Path) -> None:
    long = {**COW, "prompt": "a lifelike photo of a brown cow"}
    write(file, [*all_of()[2:], result(long, filename(7, 0)), result(long, filename(7, 1))])
    found = read(file, BOTH, range(2))
    assert list(found) == [(0, 0), (0, 1), (1, 0), (1, 1)] and found[0, 1].metadata == long
    twins = [COW, CUP, {**COW, "prompt": "one cow"}]
    with pytest.raises(ValueError, match="the tag and objects of 2 prompts"):
        read(file, twins, range(2))


@pytest.mark.parametrize("text", ["[1]\n", "cow\n", "\ufeffcow\n"])
def test_another_file_is_refused(file: Path, text: str) -> None:
    file.parent.mkdir()
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"line 1 of .* is no result of these prompts"):
        read(file, BOTH, range(2))


def test_prompts_that_lack_images_are_named(file: Path) -> None:
    write(file, all_of()[:2])
    assert len(read(file, BOTH, [0])) == 2
    with pytest.raises(
        ValueError, match=r"asked for: 0 of 'a photo of a red cup'; 2 of most\. .*benchmarks\.categories"
    ):
        read(file, BOTH, range(2))
    with pytest.raises(ValueError, match=r"asked for: 0 of 'a photo of a red cup'\. "):
        read(file, BOTH, [1])


def test_a_missing_file_is_told(file: Path) -> None:
    with pytest.raises(
        ValueError,
        match=r"there is no file .*results\.jsonl: give the results that GenEval's evaluate_images\.py",
    ):
        read(file, BOTH, range(2))
