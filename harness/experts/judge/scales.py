"""Numbers as judges write them, and the scales that they name: "8/10", "4 (out of 5)", "seven", "9分".

A number is converted from the scale that the answer names. Where a conversion would be a guess (a scale from
1 to 5, a range, "seven and a half"), there is no number.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

_ENGLISH = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
WORDS = {
    **{word: value for value, word in enumerate(_ENGLISH)},
    **{word: value for value, word in enumerate("零一二三四五六七八九十")},
}
NUMBER = r"[-+]?(?:[0-9]++(?:\.[0-9]*+)?|\.[0-9]++)"
_WORD = rf"(?:(?:{'|'.join(_ENGLISH)})\b|[零一二三四五六七八九十])"
_OPERAND = rf"(?:{NUMBER}|{_WORD})"
_UNIT = rf"(?:\s*(?:points?\b(?!\s+(?:[0-9]|{_WORD}))|stars?\b|分(?!\w)))?"
_OF = r"(?:[/∕]|(?:(?:out[ \t]+)?of|over|from)\b(?:[ \t]+(?:a[ \t]+)?(?:possible|maximum|total)\b)?)"
_TO = r"(?:[-–—~]|to\b|到|至)"
_TOP = r"(?:max(?:imum)?(?:[ \t]+(?:score|rating))?\b(?:[ \t]+(?:is|of)\b|[ \t]*[.:=])?|满分(?:为|是|:)?)"
_SCALE = r"(?:on[ \t]+)?(?:an?[ \t]+|the[ \t]+)?scale\b[ \t]*(?:of|is|[:=])?[ \t]*(?:from)?"
_IN_BRACKETS = (
    rf"(?:(?:{_OF}|{_TOP}|{_SCALE})\s*(?P<a>{_OPERAND}){_UNIT}"
    rf"|(?:{_SCALE}|from\b)?\s*(?P<low>{_OPERAND})\s*{_TO}\s*(?P<b>{_OPERAND}){_UNIT}"
    rf"|(?P<c>{_OPERAND})\s*max(?:imum)?)"
)
_BRACKETS = re.compile(rf"\s*{_IN_BRACKETS}\s*", re.IGNORECASE)
# a scale without brackets after a label; "score of 4" names no scale
AFTER_LABEL = rf"(?!(?:of|over)\b){re.sub(r'[?]P<[a-z]+>', '?:', _IN_BRACKETS)}"
_KEY = re.compile(
    r"(?P<name>.*(?:score|rating|分数|分數|[评得打总評總]分))[\s_]*"
    rf"(?:[(\[](?P<bracket>[^()\[\]]+)[)\]]|(?P<phrase>{AFTER_LABEL}))\s*",
    re.IGNORECASE,
)
_CONTINUED = re.compile(  # a number that is not over: a range, a fraction, another number, a longer word
    rf"\s*(?:[-–—~±⁄→:]|->|to\b|or\b|到|至|或)\s*(?:[0-9]|{_WORD})|,[0-9]|\.[0-9]|(?<!\.)[ \t]+[0-9]|[^\W\d]"
    rf"|\s*(?:[/⁄]|and\s+(?:an?\s+)?(?:half|quarter|third|[0-9]|{_WORD}))|\s+point\s+\w",
    re.IGNORECASE,
)
_AFTER_WORD = re.compile(r"\s*(?:$|[^\w\s⁄-]|\n|-\s|(?:because|since|as|for|due|but)\b)", re.IGNORECASE)
_AFTER_GRADE = re.compile(
    rf"{_AFTER_WORD.pattern}|\s+(?:and|overall|on|in|with|here|to|given)\b", re.IGNORECASE
)
_SCALE_BEHIND = (
    rf"(?:,?[ \t]*{_OF}\s*(?P<top>{_OPERAND}){_UNIT}"
    rf"|,?[ \t]*[(\[]\s*(?P<bracket>{_IN_BRACKETS})\s*(?=[)\],;])[)\]]?)"
)
_PARTS = re.compile(
    rf"(?P<number>{_OPERAND}){_UNIT}"
    rf"(?:(?P<percent>\s*(?:%|percent\b))|{_SCALE_BEHIND})?",
    re.IGNORECASE,
)
_BEHIND = re.compile(_SCALE_BEHIND, re.IGNORECASE)
_EXPLAINED = re.compile(r"\s*[(\[](?P<words>[^()\[\]]*\b(?:best|worst|perfect|highest|lowest)\b[^()\[\]]*)")
_SAID = re.compile(
    rf"\bscale\b[ \t]*(?:of|is|was|[:=(])?[ \t]*(?:from[ \t]+)?"
    rf"(?P<low>{_OPERAND})[ \t]*{_TO}[ \t]*(?P<b>{_OPERAND})"
    rf"|\bon[ \t]+(?:a|the)[ \t]+scale[ \t]+of[ \t]+(?P<a>{_OPERAND})(?![ \t]*{_TO})"
    rf"|(?<![\w.])(?P<points>{_OPERAND})[- ]point[ \t]+scale\b"
    rf"|\bmax(?:imum)?[ \t]+(?:possible[ \t]+)?(?:score|rating)[ \t]*(?:is|of|[:=])?[ \t]*(?P<c>{_OPERAND})"
    rf"|满分[ \t]*(?:为|是|:)?[ \t]*(?P<d>{_OPERAND})|(?P<e>{_OPERAND}|百)[ \t]*分制",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Scale:
    """The scale of the question, 0..`most`, and the scale that an answer names, `low`..`top`.

    `low` is None if the answer names only the upper end.
    """

    most: float
    top: float
    low: float | None = None

    def convert(self, number: float) -> float | None:
        """The number on 0..`most`; None if it lies outside its scale or the conversion would be a guess."""
        if self.top == self.most and self.low in (None, 0, 1):
            return float(number) if 0 <= number <= self.most else None  # NaN and infinities fail this
        if self.low not in (None, 0) or not 0 < self.top < float("inf") or not 0 <= number <= self.top:
            return None
        return number * self.most / self.top


def named_scale(text: str, most: float) -> Scale | None:
    """The scale that a text names ("on a scale of 0 to 5"), else that of the question; None for several."""
    found = set()
    for match in _SAID.finditer(text):
        parts = match.groupdict()
        top = next(parts[name] for name in ("a", "b", "c", "d", "e", "points") if parts[name])
        low = 1.0 if parts["points"] else _plain(parts["low"]) if parts["low"] else None
        found.add(Scale(most, 100.0 if top == "百" else _plain(top), low))
    if len({scale.top for scale in found}) > 1:
        return None
    return max(found, key=lambda scale: scale.low or 0, default=Scale(most, most))


def bracketed(text: str, scale: Scale) -> Scale | None:
    """The scale in brackets after a label ("1-5", "out of 10"); None if their numbers mean something else."""
    match = _BRACKETS.fullmatch(text)
    if match is not None:
        return _of_brackets(match, scale)
    return scale if _fits(text, scale) else None


def scale_behind(text: str, at: int, scale: Scale) -> Scale:
    """The scale that follows a number or object that ends at `at` ("out of 5"), else `scale`."""
    match = _BEHIND.match(text, at)
    if match is None:
        return scale
    if match.group("top"):
        return replace(scale, top=_plain(match.group("top")), low=None)
    return _of_brackets(match, scale)


def _fits(text: str, scale: Scale) -> bool:
    """Whether the numbers of a text that explains a scale are those of the scale ("0 = worst, 10 = best")."""
    numbers = {float(number) for number in re.findall(r"[0-9]++(?:\.[0-9]++)?", text)}
    return not numbers or (scale.top in numbers and numbers <= {0.0, 1.0, scale.top})


def read_at(text: str, at: int, scale: Scale) -> tuple[float | None, int] | None:
    """The number that begins at `at`, on the scale of the question, and its end; None if none begins there.

    The number is None if it is not on its scale or is continued ("7-8", "seven and a half").
    """
    match = _PARTS.match(text, at)
    if match is None:
        return None
    number, end = match.group("number"), match.end()
    is_word = number.lower() in WORDS and end == match.end("number")
    if _CONTINUED.match(text, end) or (is_word and not _AFTER_WORD.match(text, end)):
        return None, end
    if (explained := _EXPLAINED.match(text, end)) and not _fits(explained.group("words"), scale):
        return None, end
    if match.group("percent"):
        scale = replace(scale, top=100.0, low=None)
    elif match.group("top"):
        scale = replace(scale, top=_plain(match.group("top")), low=None)
    elif match.group("bracket"):
        scale = _of_brackets(match, scale)
    return scale.convert(_plain(number)), end


def grade_at(text: str, at: int, scale: Scale) -> tuple[float | None, int] | None:
    """As `read_at`, for a number in prose: only one that names its scale itself and counts nothing.

    "a 4 out of 5" and "8分" are such numbers, "8" and "4 out of 5 cups" are not.
    """
    match = _PARTS.match(text, at)
    if match is None:
        return None
    end = match.end() - match.group().endswith(".")  # the end of the sentence
    if not _AFTER_GRADE.match(text, end):
        return None
    names_scale = match.group("percent") or match.group("top") or match.group("bracket")
    return read_at(text, at, scale) if names_scale or "分" in match.group() else None


def scale_of_key(key: str, scale: Scale) -> tuple[str, Scale]:
    """The name in a member's key and the scale that the key says: "score (0-5)", "score_out_of_5"."""
    match = _KEY.fullmatch(key.replace("_", " "))
    if match is None:
        return key.strip().lower(), scale
    said = match.group("bracket") or match.group("phrase")
    named = _BRACKETS.fullmatch(said)
    if named is None and not (re.search(r"[0-9]", said) and _fits(said, scale)):
        return key.strip().lower(), scale  # "score (color)" is another score
    return match.group("name").lower(), scale if named is None else _of_brackets(named, scale)


def number_on(value: Any, scale: Scale) -> float | None:
    """A JSON value on the question's scale: a number, a text of only a number, or a list of one of these."""
    if isinstance(value, list):
        return number_on(value[0], scale) if len(value) == 1 else None
    if isinstance(value, str):
        found = read_at(value.strip(), 0, scale)
        return found[0] if found is not None and found[1] == len(value.strip()) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return scale.convert(value)


def scale_of_members(members: dict[str, Any], scale: Scale) -> Scale | None:
    """The scale that an object's members name ("max_score": 5); None if it is no readable scale."""
    names = {re.sub(r"[\W_]+", "_", key.strip().lower()): value for key, value in members.items()}
    for name in _SCALE_KEYS:
        if isinstance(names.get(name), dict):
            names |= {key: entry for key, entry in names[name].items() if key in (*_TOP_KEYS, *_LOW_KEYS)}
        elif isinstance(names.get(name), list) and len(names[name]) == 2:
            names["min"], names["max"] = names[name]
        elif names.get(name) is not None:
            text = str(names[name])
            match = _BRACKETS.fullmatch(text)
            if match is not None:
                return _of_brackets(match, scale)
            names["max"] = text
    for name, value in names.items():
        if name in _TOP_KEYS and value is not None:
            top = number_on(value, Scale(float("inf"), float("inf")))
            if top is None:
                return None
            scale = replace(scale, top=top, low=None)
    for name, value in names.items():
        if name in _LOW_KEYS and isinstance(value, int | float):
            scale = replace(scale, low=float(value))
    return scale


_SCALE_KEYS = ("scale", "range", "score_range", "score_scale", "rating_scale")
_TOP_KEYS = (
    *("max_score", "maximum_score", "score_max", "max", "maximum", "max_value", "max_rating", "scale_max"),
    *("max_points", "out_of", "of", "possible_score", "max_possible_score", "best_possible_score", "满分"),
    *("denominator", "total_points", "full_score", "full_marks", "max_marks"),
)
_LOW_KEYS = (
    "min_score",
    "minimum_score",
    "score_min",
    "min",
    "minimum",
    "min_value",
    "min_rating",
    "scale_min",
)


def is_limit(key: str) -> bool:
    """Whether a member's key names the end of a scale, not a score."""
    return re.sub(r"[\W_]+", "_", key.strip().lower()) in (*_TOP_KEYS, *_LOW_KEYS)


def _of_brackets(match: re.Match[str], scale: Scale) -> Scale:
    parts = match.groupdict()
    top = parts["a"] or parts["b"] or parts["c"]
    return replace(scale, top=_plain(top), low=_plain(parts["low"]) if parts["low"] else None)


def _plain(operand: str) -> float:
    word = operand.lower()
    return float(WORDS[word]) if word in WORDS else float(operand)
