"""Foreign texts for fuzzing: JSON values, documents that are almost right, and documents that are damaged."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

NUMBERS = st.one_of(
    st.integers(-3, 1003),
    st.integers(-(10**400), 10**400),
    st.floats(),
    st.sampled_from([1e308, -1e308, 10**400, 2**63, 0.1, -0.0]),
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    NUMBERS,
    st.text(max_size=8),
    st.sampled_from(["", "0.5", "nan", "1234", "\ud83d", "\0", "\ufeff", "a/b", "../x", "a" * 300]),
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=10,
)
ANY_BYTES = st.binary(max_size=60)
ODD_BYTES = (
    *(b"\xef\xbb\xbf", b"\xff", b"\0", b"\r\n", b"\n", b"\r", b"\xe2\x80\xa8", b'"', b"\\", b"{", b"}", b"["),
    *(b"]", b",", b"NaN", b"Infinity", b"1e999", b"9" * 5000, b"[" * 3000, b'{"a":' * 3000, b"null", b"-"),
)


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all values within a JSON value, its own first."""
    found = [path]
    if isinstance(value, dict):
        for key, inner in value.items():
            found += _places(inner, (*path, key))
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            found += _places(inner, (*path, place))
    return found


def _changed(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = _changed(copy[path[0]], path[1:], new)
    return copy


@st.composite
def altered(draw: st.DrawFn, right: Any) -> Any:
    """A JSON value of which up to three parts have become other values, or whose keys are missing."""
    value = right
    for _ in range(draw(st.integers(0, 3))):
        path = draw(st.sampled_from(_places(value)))
        value = _changed(value, path, draw(JSON))
        if isinstance(value, dict) and value and draw(st.integers(0, 4)) == 0:
            lost = draw(st.sampled_from(sorted(value)))
            value = {key: inner for key, inner in value.items() if key != lost}
    return value


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """Bytes of which up to three pieces were cut, repeated, or replaced by odd ones."""
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(content)))
        end = draw(st.integers(start, min(len(content), start + 20)))
        piece = draw(st.one_of(st.sampled_from(ODD_BYTES), st.binary(max_size=3), st.just(b"")))
        content = content[:start] + piece + content[end:]
    return content


@st.composite
def lines(draw: st.DrawFn, right: Sequence[Any]) -> bytes:
    """A file of JSON lines: all right, with altered rows, or damaged."""
    rows = [draw(altered(row)) if draw(st.booleans()) else row for row in right]
    return draw(damaged("\n".join(map(json.dumps, rows)).encode()))


@st.composite
def array(draw: st.DrawFn, right: Sequence[Any]) -> bytes:
    """The same as a JSON array."""
    rows = [draw(altered(row)) if draw(st.booleans()) else row for row in right]
    return draw(damaged(json.dumps(rows).encode()))


@contextmanager
def file_of(content: bytes, name: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / name
        file.write_bytes(content)
        yield file


def or_error(read: Callable[[], Any]) -> Any:
    """What a reader returns; None where it raises the documented error, whose message says something."""
    try:
        return read()
    except ValueError as error:
        assert str(error)
        return None
