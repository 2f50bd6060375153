"""The 722 labels, made of a label file in UniDet's form, which is rebuilt here from the published list."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from benchmarks.t2i_compbench.labels import COUNT, DIGEST, EDITS, read_labels

HEADER = ("key", "oid_freebase", "oid_name", "objects365_name", "coco_name", "mapillary_name")


@pytest.fixture
def labels(data_dir: Path) -> list[str]:
    return json.loads((data_dir / "t2i_compbench" / "unidet_labels_722.json").read_text(encoding="utf-8"))[
        "labels"
    ]


def names(number: int, label: str) -> tuple[str, str, str, str]:
    """Names of one class in the four data sets from which the label follows; what is edited by hand
    follows from none.
    """
    if number in EDITS:
        return "Other", "other/another", "", ""
    first, comma, second = label.partition(", ")
    if comma:
        return first.capitalize(), second, "ignored", ""
    if number > 700:
        return "", "", "", f"object--support--{label.replace(' ', '-')}"
    return (
        ("", label, "ignored", "a--b"),
        (label.title(), "", label, ""),
        (label.upper(), label, "", ""),
        ("", "", label, "a--b"),
    )[number % 4]


def write_csv(file: Path, rows: list[tuple[str, str, str, str]], *, end: str = "\n") -> Path:
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator=end)
        writer.writerow(HEADER)
        writer.writerows(("key", "/m/0", *row) for row in rows)
    return file


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_unidets_label_file_gives_the_published_list(labels: list[str], tmp_path: Path, end: str) -> None:
    file = write_csv(
        tmp_path / "labels.csv", [names(number, label) for number, label in enumerate(labels)], end=end
    )
    assert read_labels(file) == tuple(labels)
    assert len(labels) == COUNT and labels[249] == "tissue " and labels[126] == labels[719] == "boat"


@pytest.mark.parametrize("wrap", [lambda labels: labels, lambda labels: {"note": "x", "labels": labels}])
def test_a_json_list_is_read_too(labels: list[str], tmp_path: Path, wrap) -> None:
    (tmp_path / "labels.json").write_text("\n" + json.dumps(wrap(labels)), encoding="utf-8")
    assert read_labels(tmp_path / "labels.json") == tuple(labels)


def test_an_edit_in_the_label_file_makes_no_difference(labels: list[str], tmp_path: Path) -> None:
    rows = [names(number, label) for number, label in enumerate(labels)]
    rows[138] = ("Bench2", "bench", "bench", "object--bench")
    rows[701] = ("", "", "", "construction--flat--crosswalk-plain")
    assert read_labels(write_csv(tmp_path / "labels.csv", rows)) == tuple(labels)


@pytest.mark.parametrize("count", [721, 723, 80])
def test_a_list_of_the_wrong_length_is_refused_with_both_lengths(
    labels: list[str], tmp_path: Path, count: int
) -> None:
    (tmp_path / "labels.json").write_text(json.dumps((labels + labels)[:count]), encoding="utf-8")
    with pytest.raises(
        ValueError, match=f"holds {count} labels, and the classes .* are 722: take unidet_labels.csv"
    ):
        read_labels(tmp_path / "labels.json")


def test_another_order_is_refused_with_both_sums(labels: list[str], tmp_path: Path) -> None:
    rows = [names(number, label) for number, label in enumerate(labels)]
    rows[1], rows[2] = rows[2], rows[1]
    with pytest.raises(
        ValueError,
        match=f"not T2I-CompBench's in their order: their SHA-256 is [0-9a-f]{{64}}, and not {DIGEST}",
    ):
        read_labels(write_csv(tmp_path / "labels.csv", rows))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"id,name\n0,bottle\n", "has no column oid_name, objects365_name, coco_name, mapillary_name"),
        (b"", "has no column oid_name"),
        (b"[1, 2", "is not JSON"),
        (b'{"names": ["bottle"]}', "holds no list of labels"),
        (b'["bottle", 3]', "holds no list of labels"),
        (b"\xff\xfe", "is not UTF-8 text"),
    ],
)
def test_no_label_file_at_all(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "labels").write_bytes(content)
    with pytest.raises(ValueError, match=said):
        read_labels(tmp_path / "labels")


def test_a_missing_label_file_says_what_to_fetch(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"there is no label file .*no\.csv: .*python -m harness.fetch t2i_compbench"
    ):
        read_labels(tmp_path / "no.csv")
