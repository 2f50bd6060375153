"""The annotation file of T2I-R1: every published record, and damaged lines."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.t2i_compbench.annotations import Annotation, Spatial, read_annotations

COLOR = (
    '{"task_type": "color", "prompt": "a red apple and a brown dog", "nouns": ["apple", '
    '"dog"], "attr_nouns": ["red apple", "brown dog"]}'
)
SPATIAL = (
    '{"task_type": "spatial", "prompt": "a dog near a vase", "nouns": ["dog", "vase"], '
    '"spatial_info": {"obj1": "dog", "obj2": "vase", "locality": "near"}}'
)
NUMERACY = (
    '{"task_type": "numeracy", "prompt": "two cows", "nouns": ["cow"], "numeracy_info": '
    '[{"obj_name": "cow", "num": 2}]}'
)


def test_records_are_read_in_order(tmp_path):
    file = tmp_path / "data.json"
    file.write_text(f"{COLOR}\r\n{SPATIAL}\n\n{NUMERACY}", encoding="utf-8")
    assert list(read_annotations(file).items()) == [
        (
            "a red apple and a brown dog",
            Annotation(("apple", "dog"), ("red apple", "brown dog"), None, (), "color"),
        ),
        ("a dog near a vase", Annotation(("dog", "vase"), (), Spatial("dog", "vase", "near"), (), "spatial")),
        ("two cows", Annotation(("cow",), (), None, (("cow", 2),), "numeracy")),
    ]


def test_the_published_file_is_read_whole(data_dir):
    file = data_dir / "t2i_r1" / "geneval_and_t2i_data_final.json"
    if not file.is_file():
        pytest.skip(f"no {file}")
    found = read_annotations(file)
    tasks = Counter(one.task for one in found.values())
    assert tasks == {
        "spatial": 2195,
        "numeracy": 1172,
        "color": 879,
        "complex": 700,
        "non": 700,
        "texture": 695,
        "shape": 682,
        "object": 200,
    }
    assert sum(one.spatial is not None for one in found.values()) == 2380
    assert (
        sum(bool(one.attributes) for one in found.values()) > 2200
        and sum(bool(one.numeracy) for one in found.values()) == 1172
    )


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "line 2 of"),
        ("[1]", "is not an annotation: it is no JSON object"),
        (COLOR, "was annotated before"),
        ('{"task_type": "color", "nouns": []}', "prompt=None must be a text"),
        ('{"prompt": "a cat", "nouns": []}', "task_type=None must be a text"),
        ('{"prompt": "a cat", "task_type": "color"}', "nouns=None must be a list of texts"),
        (
            '{"prompt": "a cat", "task_type": "color", "nouns": ["cat"], "attr_nouns": "cat"}',
            "attr_nouns='cat' must be a list",
        ),
        (
            '{"prompt": "a cat", "task_type": "spatial", "nouns": [], "spatial_info": ["cat"]}',
            "must be an object with obj1, obj2",
        ),
        (
            '{"prompt": "a cat", "task_type": "spatial", "nouns": [], "spatial_info": {"obj1": "cat"}}',
            "obj2=None",
        ),
        (
            '{"prompt": "a cat", "task_type": "numeracy", "nouns": [], "numeracy_info": '
            '[{"obj_name": "cat", "num": "2"}]}',
            "a whole number",
        ),
        (
            '{"prompt": "a cat", "task_type": "numeracy", "nouns": [], "numeracy_info": [{"num": 2}]}',
            "obj_name=None",
        ),
    ],
)
def test_a_damaged_line_is_refused_by_its_number(tmp_path, line, reason):
    file = tmp_path / "data.json"
    file.write_text(f"{COLOR}\n{line}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=reason) as error:
        read_annotations(file)
    assert f"line 2 of {file}" in str(error.value)


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xff\xfe"])
def test_a_file_without_records_is_refused(tmp_path, content):
    file = tmp_path / "data.json"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"holds no annotation|is not UTF-8 text"):
        read_annotations(file)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match="cannot be read"):
        read_annotations(tmp_path / "nothing.json")


def test_a_field_of_null_is_as_missing(tmp_path: Path) -> None:
    row = {"task_type": "object", "prompt": "a cat", "nouns": ["cat"]}
    nothing = dict.fromkeys(("attr_nouns", "spatial_info", "numeracy_info"))
    found = []
    for name, content in (("a", row), ("b", {**row, **nothing})):
        (tmp_path / name).write_text(json.dumps(content))
        found.append(read_annotations(tmp_path / name))
    assert found[0] == found[1]
