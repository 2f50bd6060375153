"""JSON as language models write it: values anywhere in a text, repaired where the intention is clear."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

_SPACE = re.compile(r"\s*+")
_STRING = re.compile(r'"((?:[^"\\]|\\.)*+)("|$)' + r"|'((?:[^'\\]|\\.)*+)('|$)", re.DOTALL)
_NUMBER = re.compile(r"-?[0-9]++(?:\.[0-9]++)?(?:[eE][-+]?[0-9]++)?(?![\w.])")
_WORD = re.compile(r"[^\W\d]\w*+")
_LITERALS = {
    **{"true": True, "false": False, "null": None, "NaN": math.nan, "Infinity": math.inf},
    **{"True": True, "False": False, "None": None},
}
_DEEPEST = 30


class OpenList(list[Any]):
    """A list that the text does not close. `cut`: its last member may be incomplete."""

    cut = False


class OpenObject(dict[str, Any]):
    """An object that the text does not close. `cut`: its last value may be incomplete."""

    cut = False


class _Irregular(Exception):
    """There is no value at this position, even by the relaxed rules."""


def values(text: str) -> Iterator[Any]:
    """Yields the outermost objects and lists in `text`, in order; see `located`."""
    for value, _, _ in located(text):
        yield value


def located(text: str) -> Iterator[tuple[Any, int, int]]:
    """Yields (value, start, end) of the outermost objects and lists in `text`, in order.

    Accepts more than strict JSON: raw newlines in strings, single quotes, unquoted keys, Python literals,
    trailing commas, and containers or strings that the end of the text leaves open. Open containers are
    `OpenList` and `OpenObject`; a key without a value there has None. A number without fraction is an int.
    """
    at = 0
    while (opening := _next_opening(text, at)) >= 0:
        try:
            value, at = _value(text, opening, 0)
        except _Irregular:
            at = opening + 1
            continue
        yield value, opening, at


def _next_opening(text: str, at: int) -> int:
    positions = (text.find("{", at), text.find("[", at))
    return min((position for position in positions if position >= 0), default=-1)


def _skip_space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def _value(text: str, at: int, depth: int) -> tuple[Any, int]:
    if depth > _DEEPEST:
        raise _Irregular
    start = text[at : at + 1]
    if start == "{":
        return _object(text, at + 1, depth)
    if start == "[":
        return _list(text, at + 1, depth)
    if string := _STRING.match(text, at):
        return _content(string), string.end()
    if number := _NUMBER.match(text, at):
        return _as_number(number.group()), number.end()
    if (word := _WORD.match(text, at)) and word.group() in _LITERALS:
        return _LITERALS[word.group()], word.end()
    raise _Irregular


def _as_number(digits: str) -> int | float:
    return int(digits) if len(digits) < 19 and not re.search("[.eE]", digits) else float(digits)


def _is_cut(text: str, start: int, end: int) -> bool:
    """Whether the scalar from `start` to `end` reaches the end of the text and may be incomplete."""
    if end < len(text) or text[start] in "{[":
        return False
    string = _STRING.match(text, start)
    return string is None or not (string.group(2) or string.group(4))


def _content(string: re.Match[str]) -> str:
    """The text between the quotes, without escapes."""
    quoted = string.group(1) if string.group(1) is not None else string.group(3)
    return re.sub(r"\\(.)", r"\1", quoted, flags=re.DOTALL)


def _object(text: str, at: int, depth: int) -> tuple[dict[str, Any], int]:
    members: dict[str, Any] = {}
    while True:
        at = _skip_space(text, at)
        if at == len(text):
            return OpenObject(members), at
        if text[at] == "}":
            return members, at + 1
        key = _STRING.match(text, at) or _WORD.match(text, at)
        if key is None:
            raise _Irregular
        name = key.group() if key.re is _WORD else _content(key)
        at = _skip_space(text, key.end())
        if at == len(text):
            return OpenObject(members), at
        if text[at] != ":":
            raise _Irregular
        start = _skip_space(text, at + 1)
        members[name], at = _value(text, start, depth + 1) if start < len(text) else (None, start)
        if start == len(text) or _is_cut(text, start, at):
            opened = OpenObject(members)
            opened.cut = True
            return opened, at
        at = _after_member(text, at, "}")


def _list(text: str, at: int, depth: int) -> tuple[list[Any], int]:
    entries: list[Any] = []
    while True:
        at = _skip_space(text, at)
        if at == len(text):
            return OpenList(entries), at
        if text[at] == "]":
            return entries, at + 1
        start = at
        value, at = _value(text, start, depth + 1)
        entries.append(value)
        if _is_cut(text, start, at):
            opened = OpenList(entries)
            opened.cut = True
            return opened, at
        at = _after_member(text, at, "]")


def _after_member(text: str, at: int, closing: str) -> int:
    """The position after a member's comma, or that of the closing bracket or the end of the text."""
    at = _skip_space(text, at)
    if at == len(text) or text[at] == closing:
        return at
    if text[at] != ",":
        raise _Irregular
    return at + 1
