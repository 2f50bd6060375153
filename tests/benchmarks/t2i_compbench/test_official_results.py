"""Result files in the official form: written, read back, and refused where they are not what they seem."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.t2i_compbench.official import FORMS, RESULT, Result, read, write


def result(values: list[float | None], category: str = "color", measure: str = "blip_vqa") -> Result:
    return Result(category=category, measure=measure, count=len(values), values=dict(enumerate(values)))


@pytest.mark.parametrize(
    ("measure", "place", "answers", "summary"),
    [
        ("blip_vqa", "annotation_blip", ["0.5000", "0.2500"], ("blip_vqa_score.txt", "BLIP-VQA score:0.375")),
        (
            "unidet_2d",
            "labels/annotation_obj_detection_2d",
            [0.5, 0.25],
            ("avg_score.txt", "score avg:0.375"),
        ),
        (
            "unidet_3d",
            "labels/annotation_obj_detection_3d",
            [0.5, 0.25],
            ("avg_result.txt", "avg score is 0.375"),
        ),
        ("numeracy", "annotation_num", [0.5, 0.25], ("score.txt", "total:0.75 num:2 avg:0.375")),
        ("clip", "annotation_clip", [0.5, 0.25], None),
        ("three_in_one", "annotation_3_in_1", [0.5, 0.25], ("vqa_score.txt", "score avg:0.375")),
    ],
)
def test_every_program_has_its_form(
    tmp_path: Path, measure: str, place: str, answers: list, summary: tuple[str, str] | None
) -> None:
    assert write(tmp_path, [result([0.5, 0.25], measure=measure)]) == []
    rows = json.loads((tmp_path / place / RESULT).read_text())
    assert rows == [{"question_id": 0, "answer": answers[0]}, {"question_id": 1, "answer": answers[1]}]
    names = {file.name for file in (tmp_path / place).iterdir()}
    assert names == {RESULT, *([summary[0]] if summary else [])}
    assert summary is None or (tmp_path / place / summary[0]).read_text() == summary[1]
    assert read(tmp_path, "color", measure, count=2, alone=True) == {0: 0.5, 1: 0.25}


def test_blip_answers_are_rounded_and_their_mean_is_of_what_is_written(tmp_path: Path) -> None:
    write(tmp_path, [result([0.00005001, 1 / 3])])
    assert read(tmp_path, "color", "blip_vqa", count=2, alone=True) == {0: 0.0001, 1: 0.3333}
    assert (
        tmp_path / "annotation_blip" / "blip_vqa_score.txt"
    ).read_text() == f"BLIP-VQA score:{(0.0001 + 0.3333) / 2}"


@given(values=st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_numbers_come_back_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, values: list[float]
) -> None:
    folder = tmp_path_factory.mktemp("official")
    write(folder, [result([*values], "numeracy", "numeracy")])
    assert read(folder, "numeracy", "numeracy", count=len(values), alone=True) == dict(enumerate(values))


def test_several_categories_have_a_folder_each(tmp_path: Path) -> None:
    write(
        tmp_path,
        [result([0.5]), result([0.25], "shape"), result([0.75], "complex"), result([0.3], "complex", "clip")],
    )
    assert {path.name for path in tmp_path.iterdir()} == {"color", "shape", "complex"}
    assert [
        read(tmp_path, name, "blip_vqa", count=1, alone=False) for name in ("color", "shape", "complex")
    ] == [
        {0: 0.5},
        {0: 0.25},
        {0: 0.75},
    ]
    assert read(tmp_path, "complex", "clip", count=1, alone=True) == {0: 0.3}
    assert read(tmp_path, "texture", "blip_vqa", count=1, alone=True) is None


def test_files_of_no_category_are_nobodys_where_several_are_asked_for(tmp_path: Path) -> None:
    write(tmp_path, [result([0.5])])
    assert read(tmp_path, "shape", "blip_vqa", count=1, alone=False) is None


def test_a_result_with_gaps_is_not_written_and_it_is_said_why(tmp_path: Path) -> None:
    short = Result(category="shape", measure="blip_vqa", count=9, values={0: 1.0, 8: 0.0})
    said = write(tmp_path, [result([0.5, None]), short, result([1.0], "texture")])
    assert said == [
        "color, blip_vqa: vqa_result.json is not written, 1 of 2 images are unscored (question_id 1)",
        "shape, blip_vqa: vqa_result.json is not written, 7 of 9 images are unscored (question_id "
        "1, 2, 3, 4, 5, ...)",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["texture"]


def put(folder: Path, content: Any, measure: str = "blip_vqa") -> None:
    place = folder / FORMS[measure].folder
    place.mkdir(parents=True, exist_ok=True)
    (place / RESULT).write_text(
        content if isinstance(content, str) else json.dumps(content), encoding="utf-8"
    )


def test_texts_and_numbers_in_any_order_are_read(tmp_path: Path) -> None:
    put(tmp_path, [{"question_id": 1, "answer": 1}, {"question_id": 0, "answer": "0.1250"}])
    assert read(tmp_path, "color", "blip_vqa", count=2, alone=True) == {0: 0.125, 1: 1.0}
    put(tmp_path, [{"question_id": 0, "answer": -0.05}], "clip")
    assert read(tmp_path, "non-spatial", "clip", count=1, alone=True) == {0: -0.05}


def entry(one: Any, answer: Any = "0.5000") -> dict[str, Any]:
    return {"question_id": one, "answer": answer}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[{", "Expecting"),
        ({"answers": []}, "it is no list of"),
        ([entry(0), [1, "0.5"]], r"entry 1 \(from 0\) is \[1, '0.5'\]"),
        ([entry(0), {"question_id": 1}], r"entry 1 .* and not \{question_id, answer\}"),
        ([entry(0), entry("1")], "has the question_id '1', and not a whole number"),
        ([entry(0), entry(True)], "has the question_id True"),
        ([entry(0), entry(0)], "question_id 0 stands there twice"),
        ([entry(0)], "holds 1 answers, lacks question_id 1: they must be 0 to 1, each once"),
        ([entry(0), entry(1), entry(2)], "holds 3 answers, has the strange question_id 2"),
        ([entry(1), entry(2)], "lacks question_id 0 and has the strange question_id 2"),
        ([], "holds 0 answers, lacks question_id 0, 1"),
        (
            [entry(0), entry(1, "much")],
            "the answer of question_id 1 is 'much': it must be a number from 0 to 1",
        ),
        ([entry(0), entry(1, math.nan)], "is nan: it must be"),
        ([entry(0), entry(1, "inf")], "is 'inf': it must be"),
        ([entry(0), entry(1, None)], "is None: it must be"),
        ([entry(0), entry(1, True)], "is True: it must be"),
        ([entry(0), entry(1, 50)], "is 50: it must be"),
        ([entry(0), entry(1, -0.5)], "is -0.5: it must be"),
    ],
)
def test_what_is_no_result_is_refused(tmp_path: Path, content: Any, said: str) -> None:
    put(tmp_path, content)
    with pytest.raises(
        ValueError,
        match=f"annotation_blip/vqa_result.json is no result of blip_vqa for 2 images of color: .*{said}",
    ):
        read(tmp_path, "color", "blip_vqa", count=2, alone=True)
