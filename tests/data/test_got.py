"""Records from GoT files: the same from every format, in a fixed order, and every fault with its reason."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mini_got import picture, record, settings, source, write_lines, write_pictures, write_tar

from harness.chain import parse
from harness.composition.components import make
from harness.data.got import GotData
from harness.types import Box

SIZE = (8, 8)


def got(sources: dict[str, dict[str, Any]], **changes: Any) -> GotData:
    return make(settings(sources, **changes))


def loaded(data: GotData, count: int) -> list[tuple[str, str, tuple[int, int, int]]]:
    found = [entry.load(SIZE) for entry in data.entries(None, count)]
    assert all(one.image.size == SIZE and one.image.mode == "RGB" for one in found)
    return [(one.prompt.text, one.chain, one.image.getpixel((3, 3))) for one in found]


WANTED = [(f"a red vase, number {n}", (n * 37 % 256, n * 11 % 256, 90)) for n in range(6)]


@pytest.mark.parametrize(
    ("annotation", "place"),
    [(annotation, place) for annotation in ("lines", "array", "parquet") for place in ("folder", "tars")]
    + [("parquet", "embedded")],
)
def test_records_are_the_same_whatever_holds_them(tmp_path: Path, annotation: str, place: str) -> None:
    records = [record(n) for n in range(6)]
    if annotation == "parquet":
        pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        if place == "embedded":
            records = [{**one, "file": {"bytes": picture(n), "path": None}} for n, one in enumerate(records)]
        parquet.write_table(pa.Table.from_pylist(records[:4]), tmp_path / "a.parquet", row_group_size=3)
        parquet.write_table(pa.Table.from_pylist(records[4:]), tmp_path / "b.parquet")
        shards = str(tmp_path / "*.parquet")
    elif annotation == "lines":
        shards = [
            str(write_lines(tmp_path / "b.jsonl", records[4:])),
            str(write_lines(tmp_path / "a.jsonl", records[:4])),
        ]
    else:
        (tmp_path / "a.json").write_text(json.dumps(records))
        shards = str(tmp_path / "a.json")
    images = None
    if place == "folder":
        images = write_pictures(tmp_path / "images", 6)
    elif place == "tars":
        write_tar(tmp_path / "1.tar", [5, 3, 1])
        write_tar(tmp_path / "0.tar", [0, 2, 4])
        images = tmp_path / "*.tar"
    data = got({"lahr": source(shards, images)})
    found = loaded(data, 99)
    assert [(text, color) for text, _, color in found] == WANTED
    assert [parse(chain).objects[0].box for _, chain, _ in found] == [Box(100, 200, 600, 700)] * 6
    assert data.count(None) == 6 and data.count(4) == 4


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return write_pictures(tmp_path / "images", 9)


def test_sources_take_turns_until_they_are_through(tmp_path: Path, images: Path) -> None:
    one = write_lines(tmp_path / "one.jsonl", [record(n) for n in (0, 1, 2, 3, 4)])
    two = write_lines(tmp_path / "two.jsonl", [record(n) for n in (5, 6)])
    data = got({"lahr": source(one, images), "unused": source(None), "flux": source(two, images)})
    entries = list(data.entries(None, 6))
    assert [Path(entry.place).name for entry in entries] == [
        "one.jsonl:1", "two.jsonl:1", "one.jsonl:2", "two.jsonl:2", "one.jsonl:3", "one.jsonl:4",
    ]  # fmt: skip
    assert [entry.load(SIZE).prompt.category for entry in entries[:2]] == ["lahr", "flux"]
    with pytest.raises(ValueError, match=r"sft\.records=8, but the files of data=got hold 7"):
        data.count(8)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"caption": ', "the line is not JSON"),
        ("[]", "a record must be an object with named columns"),
        (
            record(0, got=None),
            r"no column 'got' for the chain \(data\.sources\.lahr\.columns\)\. "
            "The row has: caption, file, more",
        ),
        (record(0, caption=None), "no column 'caption' for the prompt"),
        (record(0, file=None), "no column 'file' for the image"),
        (record(0, caption=" "), "the prompt in column 'caption' is not text"),
        (record(0, got=[1]), "the chain in column 'got' is not text"),
        (record(0, caption="\ud800"), "surrogates not allowed"),
        (record(0, caption="a<begin_of_image>"), "the prompt holds a token of the grammar"),
        (record(0, got="A vase."), "no object with a box"),
        (record(0, got="A vase (1,2),(3,1004)."), "not within 0..1000"),
        (record(0, file="pictures/77.png"), r"there is no image .*77\.png"),
        (record(0, file="pictures"), "there is no image"),
        (record(0, file=7), "holds no image name"),
        (record(0, file="broken.png"), "the image cannot be decoded"),
    ],
    ids=str,
)
def test_a_bad_record_says_why(tmp_path: Path, images: Path, line: Any, reason: str) -> None:
    (images / "broken.png").write_bytes(picture(0)[:60])
    shard = write_lines(tmp_path / "a.jsonl", [record(1), line, record(2)])
    first, bad, last = got({"lahr": source(shard, images)}).entries(None, 3)
    assert bad.place == f"{shard}:2"
    with pytest.raises(ValueError, match=reason):
        bad.load(SIZE)
    assert first.load(SIZE).chain and last.load(SIZE).chain


def test_a_storage_that_fails_is_no_fault_of_a_record(
    tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (entry,) = got({"lahr": source(write_lines(tmp_path / "a.jsonl", [record(0)]), images)}).entries(None, 1)

    def fail(path: Path) -> bytes:
        raise OSError(116, "Stale file handle")

    monkeypatch.setattr(Path, "read_bytes", fail)
    with pytest.raises(OSError, match="Stale"):
        entry.load(SIZE)


@pytest.mark.parametrize(
    ("sources", "changes", "message"),
    [
        (
            {"a": source("nowhere/*.json", "images")},
            {},
            r"data\.sources\.a\.shards=nowhere/\*\.json: there is no such file\. Give annotation",
        ),
        (
            {"a": source("a.txt", "images")},
            {},
            r"data\.sources\.a\.shards=a\.txt: a\.txt is none of those\. Give annotation files \(\.json",
        ),
        ({"a": source("images", "images")}, {}, r"data\.sources\.a\.shards=images: images is none of those"),
        (
            {"a": source("a.jsonl", "nowhere")},
            {},
            r"data\.sources\.a\.images=nowhere: there is no such file\. Give a folder that holds",
        ),
        (
            {"a": source("a.jsonl", "a.txt")},
            {},
            r"data\.sources\.a\.images=a\.txt: a\.txt is none of those\. Give a folder that holds",
        ),
        (
            {"a": source("a.jsonl")},
            {},
            r"data\.sources\.a\.images=null means that parquet files hold the images, "
            r"and a\.jsonl is no parquet file",
        ),
        (
            {"a": source(None), "b": source(None)},
            {},
            r"none are named: give data\.sources\.a\.shards or data\.sources\.b\.shards",
        ),
        (
            {"a": {**source("a.jsonl", "images"), "columns": {"prompt": "x"}}},
            {},
            r"data\.sources\.a\.columns=.*prompt, chain, image",
        ),
        ({"a": source("a.jsonl", "images")}, {"fit": "pad"}, r"data\.fit='pad': allowed are crop and squash"),
        (
            {"a": source("a.jsonl", "images")},
            {"max_bad_share": 5},
            r"data\.max_bad_share=5: give a share from 0 to 1",
        ),
    ],
    ids=str,
)
def test_wrong_settings_are_refused_when_planning(
    tmp_path: Path,
    images: Path,
    monkeypatch: pytest.MonkeyPatch,
    sources: dict[str, Any],
    changes: dict[str, Any],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_lines(tmp_path / "a.jsonl", [record(0)])
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(ValueError, match=message):
        GotData(**{name: value for name, value in settings(sources, **changes).items() if name != "_target_"})


def test_annotation_counts_by_content_and_what_holds_pictures_by_name_and_size(
    tmp_path: Path, images: Path
) -> None:
    lines = write_lines(tmp_path / "a.jsonl", [record(0)])
    tar = write_tar(tmp_path / "0.tar", [0])
    assert (got({"a": source(lines, images)}).external, got({"a": source(lines, images)}).listing) == (
        (str(lines),),
        (),
    )
    assert (got({"a": source(lines, tar)}).external, got({"a": source(lines, tar)}).listing) == (
        (str(lines),),
        (("0.tar", tar.stat().st_size),),
    )
    parquet = tmp_path / "a.parquet"
    parquet.write_bytes(b"123")
    assert (got({"a": source(parquet)}).external, got({"a": source(parquet)}).listing) == (
        (),
        (("a.parquet", 3),),
    )


def test_planning_needs_no_torch(tmp_path: Path, images: Path) -> None:
    wanted = settings({"a": source(write_lines(tmp_path / "a.jsonl", [record(0)]), images)})
    code = (
        f"import sys; from harness.composition.components import make; make({wanted!r}); "
        "print('torch' in sys.modules, 'pyarrow' in sys.modules)"
    )
    root = Path(__file__).resolve().parents[2]
    shown = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    ).stdout
    assert shown.split() == ["False", "False"]
