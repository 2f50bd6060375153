"""Rows of annotation files (JSON arrays, JSON lines, parquet), one at a time however large the file is.

Text is cheap to read and images are not. An image inside a parquet file is read only when it is asked for:
a resumed run skips the rows it has seen without reading their images.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache, partial
from itertools import accumulate, count
from pathlib import Path
from typing import Any, BinaryIO

from harness.files import open_user_text

SUFFIXES = (".json", ".jsonl", ".ndjson", ".parquet")
HEAD = 2**16  # bytes that distinguish an array from lines
CHUNK = 2**16  # bytes of a JSON array that are read at a time
ROWS = 1024  # of a parquet file that become Python values at a time
ROW_GROUPS = 2  # whose images stay in memory
DEEPEST = 100  # levels of a row; a damaged file may hold millions, and readers need memory for each
MOST_DIGITS = 4300  # of a number: Python's own limit, which the reader of JSON lines has too

TOO_DEEP = f"it is nested deeper than {DEEPEST} levels"

_END = object()
_LONG_NUMBER = re.compile(rb"[0-9]{%d}" % (MOST_DIGITS + 1))
_BRACKETS = re.compile(rb'"(?:[^"\\]|\\.)*+"?+|[\[{]|[\]}]', re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of a file: its columns, and its line (JSON lines) or its position in the file, counted from 1.

    The values of an image column within the file are functions without arguments that read one image.
    `fault` says why there are no columns.
    """

    number: int
    columns: Mapping[str, Any]
    fault: str | None = None


def rows(file: Path, columns: Sequence[str], embedded: str | None = None) -> Iterator[Row]:
    """Yield the rows of a file in order.

    Args:
        file: has one of `SUFFIXES`.
        columns: those to read, others may be left out. A column that a row lacks is missing from that row.
        embedded: the one of them that holds images, in a parquet file.

    Raises:
        ValueError: the file is damaged or not UTF-8, and the number of lost rows is unknown.
    """
    if file.suffix == ".parquet":
        return _parquet_rows(file, columns, embedded)
    with open_user_text(file) as stream:
        start = stream.read(HEAD).lstrip()[:1]
    return _array_rows(file) if start == b"[" else _line_rows(file)


def _line_rows(file: Path) -> Iterator[Row]:
    with open_user_text(file) as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            try:
                _check_depth(line)
                yield _row(number, json.loads(line.decode("utf-8")))
            except (ValueError, RecursionError) as error:
                yield Row(number=number, columns={}, fault=f"the line is not JSON: {error}")


def _check_depth(line: bytes) -> None:
    """Raise ValueError if brackets are nested too deeply."""
    if line.count(b"[") + line.count(b"{") <= DEEPEST:
        return
    depth = 0
    for match in _BRACKETS.finditer(line):
        depth += {b"[": 1, b"{": 1, b"]": -1, b"}": -1}.get(match.group(), 0)
        if depth > DEEPEST:
            raise ValueError(TOO_DEEP)


def _shallow(events: Iterator[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    """Yield the events of ijson's parser. Raise ValueError if a row is nested too deeply."""
    depth = -1  # the array of the rows is no level of a row
    for event in events:
        if event[0] in ("start_array", "start_map"):
            depth += 1
        elif event[0] in ("end_array", "end_map"):
            depth -= 1
        if depth > DEEPEST:
            raise ValueError(TOO_DEEP)
        yield event


class _ShortNumbers:
    """A stream that refuses numbers which Python does not convert: ijson's C parser crashes on them."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._end = b""

    def read(self, size: int) -> bytes:
        """Return the next `size` bytes, or fewer at the end of the file."""
        text = self._stream.read(size)
        if _LONG_NUMBER.search(self._end + text):
            raise ValueError(f"it holds a number of more than {MOST_DIGITS} digits")
        self._end = (self._end + text)[-MOST_DIGITS:]
        return text


def _row(number: int, value: Any) -> Row:
    if isinstance(value, dict):
        return Row(number=number, columns=value)
    fault = f"a record must be an object with named columns, this is {json.dumps(value)[:40]}"
    return Row(number=number, columns={}, fault=fault)


def _array_rows(file: Path) -> Iterator[Row]:
    try:
        import ijson
    except ImportError as error:
        raise _not_installed(file, "a JSON array", "ijson") from error
    with open_user_text(file) as stream:
        # Without use_float, because with it ijson refuses integers of more than 64 bits, such as hashes.
        events = _shallow(ijson.basic_parse(_ShortNumbers(stream), buf_size=CHUNK))
        values = ijson.items(ijson.parse(events), "item")
        for number in count(1):
            try:
                value = _with_floats(next(values, _END))
            except (ijson.JSONError, ValueError, ArithmeticError, RecursionError) as error:
                raise ValueError(
                    f"{file} is damaged after row {number - 1}, and the rest cannot be read: "
                    f"{_reason(error)}. Fetch or write the file again, or leave it out. "
                    "NaN and Infinity are no JSON: write null"
                ) from error
            if value is _END:
                return
            yield _row(number, value)


def _with_floats(value: Any) -> Any:
    """Replace the decimal numbers in a JSON value by floats."""
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, list):
        return [_with_floats(item) for item in value]
    if isinstance(value, dict):
        return {key: _with_floats(item) for key, item in value.items()}
    return value


def _reason(error: Exception) -> str:
    """Return the first line of an error's text; ijson adds a drawing, and some of its texts are bytes."""
    text = error.args[0] if error.args else ""
    text = text.decode(errors="replace") if isinstance(text, bytes) else str(text)
    return text.partition("\n")[0] or type(error).__name__


def _not_installed(file: Path, kind: str, package: str) -> ValueError:
    return ValueError(
        f"{file} is {kind}, and {package}, which reads it, is not installed: "
        "pip install 'got-r1-harness[data]'"
    )


def _parquet_rows(file: Path, columns: Sequence[str], embedded: str | None) -> Iterator[Row]:
    parquet = _Parquet(file)
    texts = [name for name in columns if name in parquet.names and name != embedded]
    starts = [0, *accumulate(parquet.sizes)]
    for group, start in enumerate(starts[:-1]):
        for position, values in enumerate(parquet.values(group, texts)):
            if embedded is not None and embedded in parquet.names:
                values[embedded] = partial(parquet.image, group, position, embedded)
            yield Row(number=start + position + 1, columns=values)


class _Parquet:
    """A parquet file. Several threads may read its images."""

    def __init__(self, file: Path) -> None:
        try:
            from pyarrow import parquet
        except ImportError as error:
            raise _not_installed(file, "a parquet file", "pyarrow") from error
        self._file, self._lock = file, threading.Lock()
        try:
            self._parquet = parquet.ParquetFile(file, memory_map=True)
        except Exception as error:  # the library raises errors of several unrelated kinds
            raise self._damaged(error) from error
        self.names = frozenset(self._parquet.schema_arrow.names)
        metadata = self._parquet.metadata
        self.sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        self._images = lru_cache(maxsize=ROW_GROUPS)(self._read_images)

    def values(self, group: int, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
        """Yield the given columns of each row of a row group."""
        if not columns:
            yield from ({} for _ in range(self.sizes[group]))
            return
        try:
            for batch in self._parquet.iter_batches(ROWS, row_groups=[group], columns=list(columns)):
                yield from batch.to_pylist()
        except Exception as error:
            raise self._damaged(error) from error

    def image(self, group: int, row: int, column: str) -> bytes:
        """Return the bytes of an encoded image, from a column of bytes or of {bytes, ...}.

        Raises:
            ValueError: the column holds no image in this row.
        """
        with self._lock:
            value = self._images(group, column)[row].as_py()
        value = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(value, bytes) or not value:
            raise ValueError(f"the column {column!r} holds no image in this row")
        return value

    def _read_images(self, group: int, column: str) -> Any:
        return self._parquet.read_row_group(group, columns=[column]).column(column)

    def _damaged(self, error: Exception) -> ValueError:
        return ValueError(
            f"{self._file} cannot be read as parquet ({error}). "
            "Fetch or write the file again, or leave it out"
        )
