"""The published prompts and class names, and files of one's own, which are checked line by line."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from benchmarks.geneval.files import COLORS, RELATIONS, TAGS, metadata_version, read_metadata, read_names
from benchmarks.geneval.models import colors

COW: dict[str, Any] = {
    "tag": "single_object",
    "include": [{"class": "cow", "count": 1}],
    "prompt": "a photo of a cow",
}


@pytest.fixture
def official(data_dir: Path) -> Path:
    return data_dir / "geneval"


@pytest.fixture
def own(official: Path, tmp_path: Path) -> Path:
    (tmp_path / "object_names.txt").write_bytes((official / "object_names.txt").read_bytes())
    (tmp_path / "evaluation_metadata.jsonl").write_text(json.dumps(COW))
    return tmp_path


def test_the_published_prompts(official: Path) -> None:
    lines = read_metadata(official)
    assert metadata_version(official) == "published"
    counts = {
        "single_object": 80,
        "two_object": 99,
        "counting": 80,
        "colors": 94,
        "position": 100,
        "color_attr": 100,
    }
    assert (
        Counter(line["tag"] for line in lines) == counts
        and tuple(dict.fromkeys(line["tag"] for line in lines)) == TAGS
    )
    assert [line["prompt"] for line in lines] == (
        official / "generation_prompts.txt"
    ).read_text().splitlines()
    entries = [entry for line in lines for entry in line["include"]]
    assert {entry["color"] for entry in entries if "color" in entry} <= set(COLORS)
    assert {entry["position"][0] for entry in entries if "position" in entry} == set(RELATIONS)


def test_the_names_are_in_the_detectors_order(official: Path) -> None:
    names = read_names(official)
    assert (len(set(names)), names[0], names[64], names[79]) == (80, "person", "computer mouse", "toothbrush")


def test_the_colors_are_those_that_the_classifier_knows() -> None:
    assert colors.COLORS == COLORS


def test_a_file_of_ones_own_is_told_apart(own: Path) -> None:
    assert read_metadata(own) == [COW]
    assert metadata_version(own).startswith("unknown, sha256 ")


def test_line_ends_do_not_count(official: Path, tmp_path: Path) -> None:
    for name in ("object_names.txt", "evaluation_metadata.jsonl"):
        (tmp_path / name).write_bytes((official / name).read_bytes().replace(b"\n", b"\r\n"))
    assert read_metadata(tmp_path) == read_metadata(official) and metadata_version(tmp_path) == "published"


@pytest.mark.parametrize(
    "change", [lambda names: names[:-1], lambda names: names[::-1], lambda names: [*names, "cup"]]
)
def test_names_in_another_order_are_refused(own: Path, change) -> None:
    names = (own / "object_names.txt").read_text().splitlines()
    (own / "object_names.txt").write_text("\n".join(change(names)))
    with pytest.raises(ValueError, match="does not hold the 80 published names in their order"):
        read_names(own)


def entry(**changes: Any) -> dict[str, Any]:
    return {**COW, "include": [{"class": "cow", "count": 1, **changes}]}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", "Expecting value"),
        ('"a photo of a cow"', "it is no JSON object"),
        ({**COW, "tag": "colour"}, "its tag is 'colour', and not one of single_object"),
        ({**COW, "prompt": " "}, "its prompt is ' ', and not a text"),
        ({**COW, "include": []}, "a list of at least one entry"),
        ({**COW, "exclude": {}}, "a list of at least one entry"),
        ({**COW, "include": ["cow"]}, "the entry 'cow' has no class of object_names.txt"),
        (entry(**{"class": "unicorn"}), "has no class of object_names.txt"),
        (entry(**{"class": ["cow"]}), "has no class of object_names.txt"),
        (entry(count=0), "the count of cow is 0"),
        (entry(count=True), "the count of cow is True"),
        (entry(color="grey"), "the color of cow is 'grey', and not one of red"),
        (entry(position=["left of", 0]), "with the place of an earlier entry"),
        (
            {**COW, "include": [*COW["include"], {"class": "dog", "count": 1, "position": ["beside", 0]}]},
            "is not one of left of",
        ),
        (
            {**COW, "include": [*COW["include"], {"class": "dog", "count": 1, "position": "above"}]},
            "the position 'above'",
        ),
        (
            {**COW, "include": [COW["include"][0]] * 2 + [entry(position=["above", True])["include"][-1]]},
            "an earlier entry",
        ),
        (
            {**COW, "include": [*COW["include"], {"class": "dog", "count": 1, "position": ["above", 0.0]}]},
            "['above', 0.0] is not one of",
        ),
    ],
)
def test_what_is_no_line_is_refused_with_its_number(own: Path, line: Any, said: str) -> None:
    text = line if isinstance(line, str) else json.dumps(line)
    (own / "evaluation_metadata.jsonl").write_text(
        f"{json.dumps({**COW, 'prompt': 'a cow'})}\n{text}\n{json.dumps(COW)}\n"
    )
    with pytest.raises(
        ValueError, match=r"line 2 of .*evaluation_metadata\.jsonl is no prompt of GenEval: "
    ) as refused:
        read_metadata(own)
    assert said in str(refused.value)


def test_a_prompt_stands_there_once(own: Path) -> None:
    (own / "evaluation_metadata.jsonl").write_text(f"{json.dumps(COW)}\n" * 2)
    with pytest.raises(
        ValueError, match=r"lines 1 and 2 of .* both have the prompt 'a photo of a cow': keep one"
    ):
        read_metadata(own)


@pytest.mark.parametrize("name", ["object_names.txt", "evaluation_metadata.jsonl"])
def test_a_missing_or_damaged_file_is_told(own: Path, name: str) -> None:
    (own / name).write_bytes(b"\xff")
    with pytest.raises(ValueError, match="is not UTF-8 text"):
        read_metadata(own)
    (own / name).unlink()
    with pytest.raises(ValueError, match=f"lacks {name}: fetch it with `python -m harness.fetch geneval`"):
        read_metadata(own)
