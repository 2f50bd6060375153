"""Reading a judge's answer: a number on its scale, or explicitly none. A wrong guess would poison training, a zero too.

The rules, in their order: the last JSON value with a score in it; tags around a number; a labelled number ("Score: 8");
a fraction of the scale ("8/10"); a bare number as first or last line. Whatever stays ambiguous is unscored, never clipped.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Any

from harness.experts import relaxed_json


@dataclass(frozen=True)
class Reading:
    """`value` on the scale that was asked for, or None and in `unscored` the reason."""

    value: float | None
    unscored: str | None = None


_STRAIGHT = {
    **dict.fromkeys("“”„‟«»", '"'),
    **dict.fromkeys("‘’‚‛", "'"),
    **dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff", ""),
}
_QUOTES = str.maketrans(_STRAIGHT)  # and no zero-width characters
_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_NUMBER = r"[-+]?(?:[0-9]++(?:\.[0-9]*+)?|\.[0-9]++)"
_FRACTION = rf"{_NUMBER}(?:\s*(?:/|out\s+of)\s*{_NUMBER}|\s*%)?"
_WHOLE = re.compile(rf"\s*({_NUMBER})(?:\s*(?:/|out\s+of)\s*({_NUMBER})|\s*(%))?\s*", re.IGNORECASE)
_LABEL = r"(?:(?<![A-Za-z_])(?:score|rating)(?![A-Za-z_])|评分|分数|得分)"
_LABELLED = re.compile(
    rf"""{_LABEL}["']?\s*+(?:[(\[][^()\[\]\n]*+[)\]]\s*+)?         # Score (0-10)
    (?:[ \t]*+(?:[:=|\n]|is\b|of\b|->|[→–—为是]))++\s*+             # is, :, ...
    (?P<open>["'(\[]?)\s*+(?P<value>{_FRACTION}|(?:{"|".join(_WORDS)})\b)
    (?P<more>\s*(?:[-–—~±]|to\b|or\b)\s*[0-9]|,[0-9]|\.[0-9]|[^\W\d])?""",
    re.IGNORECASE | re.VERBOSE,
)
_TAGS = re.compile(r"<(score|answer)>(?P<tag>[^<>]*)</\1>|\\boxed\{(?P<boxed>[^{}]*)\}", re.IGNORECASE)
REFUSAL = re.compile(r"\b(?:cannot|can not|can't|unable|won't|refuse[sd]?)\b", re.IGNORECASE)
_SENTENCE_END = re.compile(r"[.!?](?=\s)|\n")


def read_score(raw: str | None, scale_max: float, finish_reason: str = "stop") -> Reading:
    """The score in a judge's answer, on 0..`scale_max`.

    Args:
        raw: the answer as it came; None where none came.
        scale_max: the upper end of the scale that was asked for.
        finish_reason: as servers say it: "stop", "length" for an answer cut at the token limit, "content_filter", "refusal".
    """
    if finish_reason in ("content_filter", "refusal"):
        return Reading(None, f"the answer ended with {finish_reason!r}")
    text = cleaned(raw or "")
    if not text.strip():
        return Reading(None, "the answer is empty")
    if "<think>" in text:
        return Reading(None, "the answer never ends its thinking")
    reading = _read(text, scale_max)
    # A number that would read differently with one more digit may not be complete: 1 of a cut 10.
    if (
        finish_reason == "length"
        and reading.value is not None
        and text[-1] in "0123456789./"
        and _read(text + "5", scale_max) != reading
    ):
        return Reading(None, "the answer was cut at its number")
    return reading


def cleaned(raw: str) -> str:
    """The answer in plain characters, without thinking that ended, code fences and zero-width characters."""
    text = unicodedata.normalize("NFKC", raw).translate(_QUOTES).rpartition("</think>")[2]
    return "\n".join(line for line in text.split("\n") if not re.fullmatch(r"\s*```\w*\s*", line))


def _read(text: str, scale_max: float) -> Reading:
    levels = [level for value in relaxed_json.values(text) if (level := _score_level(value))]
    if levels:
        return _agreed([_number(value, scale_max) for value in levels[-1]], "the score of the JSON answer")
    text = re.sub(r"[*`]|^\s*#+", "", text, flags=re.MULTILINE)
    for source in (_tagged, _labelled, _fractions, _bare):
        found = source(text, scale_max)
        if found is not None:
            return found
    return Reading(None, "the answer holds no score")


def _agreed(numbers: list[float | None], what: str) -> Reading:
    """The one value that all readings share."""
    if any(number is None for number in numbers):
        return Reading(None, f"{what} is no number on the scale")
    if len(set(numbers)) > 1:
        return Reading(None, f"{what} has several values: {', '.join(map(str, numbers))}")
    return Reading(numbers[0])


def _score_level(value: Any) -> list[Any]:
    """What stands under score keys at the shallowest level that has any; keys named score or rating before *_score."""
    level = [value]
    while level:
        members = [
            (key.strip().lower(), entry)
            for node in level
            if isinstance(node, dict)
            for key, entry in node.items()
        ]
        for wanted in (
            lambda key: key in ("score", "rating", "评分", "分数", "得分"),
            lambda key: key.endswith("score"),
        ):
            if found := [entry for key, entry in members if wanted(key)]:
                return found
        nested = [entry for _, entry in members] + [
            entry for node in level if isinstance(node, list) for entry in node
        ]
        level = [entry for entry in nested if isinstance(entry, dict | list)]
    return []


def _number(value: Any, scale_max: float) -> float | None:
    """One value on 0..`scale_max`: a number, a text that is one, a list of one; None for anything else or out of range."""
    if isinstance(value, list):
        return _number(value[0], scale_max) if len(value) == 1 else None
    if isinstance(value, str):
        return _number_in_words(value, scale_max)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value <= scale_max else None  # NaN and infinities fail this


def _number_in_words(text: str, scale_max: float) -> float | None:
    word = text.strip().lower()
    if word in _WORDS:
        return _number(_WORDS.index(word), scale_max)
    match = _WHOLE.fullmatch(text)
    if match is None:
        return None
    number = float(match.group(1))
    if match.group(2) is None and match.group(3) is None:
        return _number(number, scale_max)
    whole = float(match.group(2)) if match.group(2) is not None else 100.0
    return number * scale_max / whole if 0 <= number <= whole and 0 < whole < float("inf") else None


def _tagged(text: str, scale_max: float) -> Reading | None:
    contents = [match.group("tag") or match.group("boxed") or "" for match in _TAGS.finditer(text)]
    if not contents or re.search(_LABEL, contents[-1], re.IGNORECASE):
        return None
    return _agreed([_number(contents[-1], scale_max)], "the tagged answer")


def _labelled(text: str, scale_max: float) -> Reading | None:
    numbers = [match for match in _LABELLED.finditer(text) if not _refused(text, match.start())]
    if not numbers:
        return None
    last = numbers[-1]
    return _agreed(
        [None if last.group("more") else _number(last.group("value"), scale_max)], "the labelled score"
    )


def _refused(text: str, at: int) -> bool:
    """Whether the sentence says before `at` that it will not answer ("I cannot give a score of 10")."""
    ends = [match.end() for match in _SENTENCE_END.finditer(text, 0, at)]
    return REFUSAL.search(text, ends[-1] if ends else 0, at) is not None


def _fractions(text: str, scale_max: float) -> Reading | None:
    scale = re.escape(f"{scale_max:g}")
    pattern = rf"(?P<range>[0-9]\s*(?:[-–—~,]|to|or)\s*)?(?<![0-9.])(?P<value>{_NUMBER})\s*(?:/|out\s+of)\s*{scale}(?:\.0+)?(?![0-9/]|\.[0-9])"
    found = [
        match for match in re.finditer(pattern, text, re.IGNORECASE) if not _refused(text, match.start())
    ]
    if not found:
        return None
    return _agreed(
        [None if match.group("range") else _number(match.group("value"), scale_max) for match in found],
        "the fraction",
    )


def _bare(text: str, scale_max: float) -> Reading | None:
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    numbers = [line for line in (lines[0], lines[-1]) if re.fullmatch(_NUMBER, line)] if lines else []
    return (
        _agreed([_number_in_words(number, scale_max) for number in numbers], "the bare number")
        if numbers
        else None
    )
