"""Rows of annotation files: whole, whatever their size, and what is said of damaged ones."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.data import files
from harness.data.files import rows

RECORDS = [
    {
        "prompt": f"prompt {n} \u2028 é",
        "chain": "x" * (n * 7 % 50),
        "image": f"{n}.png",
        "more": [n, {"a": None}],
    }
    for n in range(40)
]
COLUMNS = ["prompt", "chain", "image"]


def plain(file: Path, columns: list[str] = COLUMNS) -> list[tuple[int, dict[str, Any]]]:
    return [
        (row.number, {name: row.columns[name] for name in columns if name in row.columns})
        for row in rows(file, columns)
    ]


WANTED = [(n, {name: record[name] for name in COLUMNS}) for n, record in enumerate(RECORDS, start=1)]


def write(file: Path, text: str | bytes) -> Path:
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


@pytest.mark.parametrize("chunk", [1, 7, 64, 2**20])
@pytest.mark.parametrize("indent", [None, 2])
def test_an_array_is_read_whole_whatever_the_window(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int, indent: int | None
) -> None:
    monkeypatch.setattr(files, "CHUNK", chunk)
    for name, encoding in (("a.json", "utf-8"), ("b.json", "utf-8-sig")):
        file = write(
            tmp_path / name, f"\n {json.dumps(RECORDS, indent=indent, ensure_ascii=False)}\n".encode(encoding)
        )
        assert plain(file) == WANTED


def test_lines_are_read_whole_and_counted_as_lines(tmp_path: Path) -> None:
    text = "\n".join(json.dumps(record, ensure_ascii=False) for record in RECORDS)
    for name in ("a.jsonl", "a.json"):
        assert plain(write(tmp_path / name, text)) == WANTED
    spaced = write(tmp_path / "b.jsonl", '\ufeff{"prompt": 1}\r\n\n  \n{"prompt": 2}\n')
    assert plain(spaced) == [(1, {"prompt": 1}), (4, {"prompt": 2})]


@pytest.mark.parametrize("text", ["", " \n", "[]", " [ ] "])
def test_an_empty_file_has_no_rows(tmp_path: Path, text: str) -> None:
    assert plain(write(tmp_path / "a.json", text)) == []


def test_a_bad_line_is_one_bad_row(tmp_path: Path) -> None:
    lines = [b'{"prompt": 1}', b'{"prompt": ', b"\xff\xfe", b"[1, 2]", b"7", b"[" * 100000, b'{"prompt": 2}']
    found = list(rows(write(tmp_path / "a.jsonl", b'{"prompt": 0}\n' + b"\n".join(lines)), COLUMNS))
    assert [row.columns.get("prompt") for row in found] == [0, 1, None, None, None, None, None, 2]
    assert [row.fault is None for row in found] == [True, True, False, False, False, False, False, True]
    assert "not JSON" in found[2].fault and "named columns, this is [1, 2]" in found[4].fault


@pytest.mark.parametrize(
    "text",
    [
        '[{"a": 1}, {"a": 2}, {"a',
        '[{"a": 1} {"a": 2}]',
        '[{"a": 1},, {}]',
        '[{"a": 1}][{"a": 2}]',
        '[{"a": 1}',
        "[",
    ],
)
def test_a_damaged_array_is_an_error_that_names_the_file_and_the_row(tmp_path: Path, text: str) -> None:
    with pytest.raises(
        ValueError, match=r"a\.json is damaged after row \d+, and the rest cannot be read: \w"
    ):
        list(rows(write(tmp_path / "a.json", text), COLUMNS))


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=2), inner, max_size=3),
    max_leaves=8,
)
records = st.lists(st.dictionaries(st.text("abc", max_size=3), values, max_size=4), max_size=6)


def exact(value: Any) -> str:
    """Tells 1 from 1.0 and from True, and 0.0 from -0.0."""
    return repr(value)


@given(records, st.booleans(), st.sampled_from([None, 1]))
def test_an_array_has_the_rows_that_json_reads(
    tmp_path_factory: pytest.TempPathFactory, array: list[Any], escaped: bool, indent: int | None
) -> None:
    text = json.dumps(array, ensure_ascii=escaped, indent=indent)
    file = write(tmp_path_factory.mktemp("array") / "a.json", text)
    found = list(rows(file, []))
    assert [row.number for row in found] == list(range(1, len(array) + 1))
    assert exact([row.columns for row in found]) == exact(json.loads(text))


@given(records.filter(bool), st.data())
def test_a_cut_array_is_an_error_after_some_of_its_rows(
    tmp_path_factory: pytest.TempPathFactory, array: list[Any], data: st.DataObject
) -> None:
    text = json.dumps(array).encode()
    cut = text[: data.draw(st.integers(1, len(text) - 1))]
    stream = rows(write(tmp_path_factory.mktemp("cut") / "a.json", cut), [])
    found: list[Any] = []
    with pytest.raises(ValueError, match=r"a\.json is damaged after row \d+") as error:
        for row in stream:
            found.append(row.columns)
    assert exact(found) == exact(array[: len(found)])
    assert f"after row {len(found)}," in str(error.value)


def test_numbers_of_an_array_are_those_of_json(tmp_path: Path) -> None:
    text = '[{"a": [18446744073709551616, -0, -0.0, 1.0, 1e5, 0.1, 1e400, 5e-324], "b": 1, "b": 2}, 2.5]'
    first, second = rows(write(tmp_path / "a.json", text), [])
    assert exact(first.columns) == exact(json.loads(text)[0])
    assert second.fault is not None and second.fault.endswith("this is 2.5")


def test_half_a_surrogate_pair_in_an_array_becomes_a_question_mark(tmp_path: Path) -> None:
    [row] = rows(write(tmp_path / "a.json", '[{"prompt": "a \\ud83d vase"}]'), COLUMNS)
    assert row.columns == {"prompt": "a ? vase"}


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity"])
def test_an_array_with_words_that_are_no_json_is_an_error_that_says_so(tmp_path: Path, word: str) -> None:
    file = write(tmp_path / "a.json", f'[{{"a": 1}}, {{"a": {word}}}]')
    with pytest.raises(ValueError, match=r"damaged after row 1, .*NaN and Infinity are no JSON: write null"):
        list(rows(file, []))


def test_an_array_nested_beyond_any_data_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a\.json is damaged after row 1"):
        list(rows(write(tmp_path / "a.json", '[{"a": 1}, ' + "[" * 3000 + "]" * 3000 + "]"), []))


@pytest.mark.parametrize("before", [0, files.CHUNK - 2000])
def test_a_number_that_python_does_not_convert_is_an_error(tmp_path: Path, before: int) -> None:
    # ijson 3.6.0 reads on after such a number, loses rows, and may end the process
    digits = "9" * (files.MOST_DIGITS + 1)
    file = write(tmp_path / "a.json", f'[{{}}, {" " * before}{{"n": [1, {digits}]}}]')
    with pytest.raises(ValueError, match="more than 4300 digits"):
        list(rows(file, ["n"]))
    longest = write(tmp_path / "a.json", f'[{" " * before}{{"n": {digits[1:]}}}]')
    assert [row.columns for row in rows(longest, ["n"])] == [{"n": int(digits[1:])}]


def test_without_ijson_the_message_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ijson", None)
    with pytest.raises(ValueError, match=r"a JSON array, and ijson, .*pip install 'got-r1-harness\[data\]'"):
        list(rows(write(tmp_path / "a.json", "[]"), COLUMNS))


def test_an_array_that_is_no_utf8_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a\.json is damaged after row 0, .*UTF"):
        list(rows(write(tmp_path / "a.json", b'[{"a": "\xff"}]'), COLUMNS))


def test_parquet_rows_and_their_pictures(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    file = tmp_path / "a.parquet"
    pictures = [f"picture {n}".encode() for n in range(len(RECORDS))]
    texts = {name: [record[name] for record in RECORDS] for name in COLUMNS}
    table = {
        **texts,
        "bytes": pictures,
        "struct": [{"bytes": one, "path": None} for one in pictures],
        "none": [None] * len(pictures),
    }
    parquet.write_table(pa.table(table), file, row_group_size=9)
    assert plain(file) == WANTED
    assert plain(file, ["prompt", "absent"]) == [(n, {"prompt": values["prompt"]}) for n, values in WANTED]
    assert [row.number for row in rows(file, ["absent"])] == [n for n, _ in WANTED]
    for column in ("bytes", "struct"):
        found = list(rows(file, ["prompt", column], column))
        order = [39, 0, 20, 1, 38]
        assert [found[n].columns[column]() for n in order] == [pictures[n] for n in order]
    with pytest.raises(ValueError, match="the column 'none' holds no image"):
        next(rows(file, ["none"], "none")).columns["none"]()


def test_a_damaged_parquet_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    with pytest.raises(ValueError, match=r"a\.parquet cannot be read as parquet"):
        list(rows(write(tmp_path / "a.parquet", "PAR1 no"), COLUMNS))


def test_without_pyarrow_the_message_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ValueError, match=r"pip install 'got-r1-harness\[data\]'"):
        list(rows(write(tmp_path / "a.parquet", ""), COLUMNS))
