"""Rows of annotation files, one at a time however large the file: JSON arrays, JSON lines, parquet.

Reading text is cheap and reading pictures is not, so a picture inside a parquet file is read when it is asked for: a
run that goes on after an interruption passes over rows without touching their pictures.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import accumulate, count
from pathlib import Path
from typing import Any, TextIO

SUFFIXES = (".json", ".jsonl", ".ndjson", ".parquet")
HEAD = 2**16  # bytes that tell an array from lines
CHUNK = 2**20  # characters read at a time from a JSON array
ROWS = 1024  # of a parquet file turned into Python values at a time
ROW_GROUPS = 2  # whose pictures are kept in memory

_SPACE = re.compile(r"[ \t\r\n]*+")


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of a file: its line (JSON lines) or its place in the file, from 1, and its columns.

    A column of pictures within the file holds functions without arguments that read one. `fault` says why there are no columns.
    """

    number: int
    columns: Mapping[str, Any]
    fault: str | None = None


def rows(file: Path, columns: Sequence[str], embedded: str | None = None) -> Iterator[Row]:
    """The rows of a file in its order.

    Args:
        file: with one of `SUFFIXES`.
        columns: those wanted, others may be left out; one that a row lacks is missing from it.
        embedded: the one of them that holds pictures, in a parquet file.

    Raises:
        ValueError: the file is damaged in a way that hides how many of its rows are lost.
    """
    if file.suffix == ".parquet":
        return _parquet_rows(file, columns, embedded)
    with file.open("rb") as stream:
        start = stream.read(HEAD).removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    return _array_rows(file) if start == b"[" else _line_rows(file)


def _line_rows(file: Path) -> Iterator[Row]:
    with file.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            try:
                yield _row(number, json.loads(line.decode("utf-8-sig")))
            except (ValueError, RecursionError) as error:
                yield Row(number=number, columns={}, fault=f"the line is no JSON: {error}")


def _row(number: int, value: Any) -> Row:
    if isinstance(value, dict):
        return Row(number=number, columns=value)
    return Row(
        number=number, columns={}, fault=f"a record has named columns, this is {json.dumps(value)[:40]}"
    )


def _array_rows(file: Path) -> Iterator[Row]:
    with file.open(encoding="utf-8-sig") as stream:
        window = _Window(file, stream)
        window.skip("[")
        mark = window.peek()
        for number in count(1):
            if mark == "]":
                break
            yield _row(number, window.take())
            if (mark := window.peek()) != "]":
                window.skip(",")
        window.skip("]")
        window.skip("")


class _Window:
    """What has been read of a JSON text and not been taken yet."""

    def __init__(self, file: Path, stream: TextIO) -> None:
        self._file, self._stream = file, stream
        self._decoder = json.JSONDecoder()
        self._text, self._at, self._passed = (
            "",
            0,
            0,
        )  # a part of the text, the place in it, characters before it

    def peek(self) -> str:
        """The next character that is no space; "" at the end."""
        while True:
            space = _SPACE.match(self._text, self._at)
            assert space is not None
            self._at = space.end()
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def skip(self, mark: str) -> None:
        """Passes over the next character, which must be this; "" is the end."""
        if (found := self.peek()) != mark:
            raise self._damaged(f"{mark or 'the end'} should stand there, not {found or 'the end'}")
        self._at += len(mark)

    def take(self) -> Any:
        """The next value."""
        self.peek()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except (ValueError, RecursionError) as error:
                if not self._more():
                    raise self._damaged(str(error)) from error
                continue
            if end < len(self._text) or not self._more():  # at the end of what was read a value may be cut
                self._at = end
                return value

    def _more(self) -> bool:
        """Reads on, more each time within one value; False at the end of the text."""
        self._passed += self._at
        self._text, self._at = self._text[self._at :], 0
        try:
            read = self._stream.read(max(CHUNK, len(self._text)))
        except UnicodeDecodeError as error:
            raise self._damaged(str(error)) from error
        self._text += read
        return bool(read)

    def _damaged(self, reason: str) -> ValueError:
        return ValueError(
            f"{self._file} is damaged near character {self._passed + self._at}, and what follows cannot be read: {reason}."
            " Fetch or make it anew, or leave it out"
        )


def _parquet_rows(file: Path, columns: Sequence[str], embedded: str | None) -> Iterator[Row]:
    found = _Parquet(file)
    texts = [name for name in columns if name in found.names and name != embedded]
    starts = [0, *accumulate(found.sizes)]
    for group, start in enumerate(starts[:-1]):
        for place, values in enumerate(found.values(group, texts)):
            if embedded is not None and embedded in found.names:
                values[embedded] = partial(found.picture, group, place, embedded)
            yield Row(number=start + place + 1, columns=values)


class _Parquet:
    """A parquet file; its pictures may be asked for by several threads."""

    def __init__(self, file: Path) -> None:
        try:
            from pyarrow import parquet
        except ImportError as error:
            raise ValueError(
                f"{file} is read with pyarrow, which is not installed: pip install 'got-r1-harness[data]'"
            ) from error
        self._file, self._lock = file, threading.Lock()
        try:
            self._parquet = parquet.ParquetFile(file, memory_map=True)
        except Exception as error:  # the library raises errors of several unrelated kinds
            raise self._damaged(error) from error
        self.names = frozenset(self._parquet.schema_arrow.names)
        metadata = self._parquet.metadata
        self.sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        self._pictures = lru_cache(maxsize=ROW_GROUPS)(self._read_pictures)

    def values(self, group: int, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
        """The given columns of the rows of a row group."""
        if not columns:
            yield from ({} for _ in range(self.sizes[group]))
            return
        try:
            for batch in self._parquet.iter_batches(ROWS, row_groups=[group], columns=list(columns)):
                yield from batch.to_pylist()
        except Exception as error:
            raise self._damaged(error) from error

    def picture(self, group: int, row: int, column: str) -> bytes:
        """The bytes of an encoded picture, from a column of bytes or of {bytes, ...}.

        Raises:
            ValueError: there are none.
        """
        with self._lock:
            value = self._pictures(group, column)[row].as_py()
        value = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(value, bytes) or not value:
            raise ValueError(f"the column {column!r} holds no picture there")
        return value

    def _read_pictures(self, group: int, column: str) -> Any:
        return self._parquet.read_row_group(group, columns=[column]).column(column)

    def _damaged(self, error: Exception) -> ValueError:
        return ValueError(
            f"{self._file} cannot be read as parquet ({error}). Fetch or make it anew, or leave it out"
        )
