"""The score in a judge's answer: a number on its scale, or explicitly none.

A wrong guess would poison training, and so would a zero. The rules, in this order: the last JSON value with
a score in it; tags around a number; a labeled number ("Score: 8"); a fraction of the scale ("8/10"); a bare
number as first or last line. An ambiguous answer is unscored, never clipped.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Any

from harness.experts import relaxed_json


@dataclass(frozen=True)
class Reading:
    """A value on the scale of the question, or None and the reason in `unscored`."""

    value: float | None
    unscored: str | None = None


_PLAIN_CHARACTERS = str.maketrans(
    {
        **dict.fromkeys("“”„‟«»", '"'),
        **dict.fromkeys("‘’‚‛", "'"),
        **dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff", ""),  # zero-width characters
    }
)
_SCORE_KEYS = ("score", "rating", "评分", "分数", "得分")
_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_NUMBER = r"[-+]?(?:[0-9]++(?:\.[0-9]*+)?|\.[0-9]++)"
_FRACTION = rf"{_NUMBER}(?:\s*(?:/|out\s+of)\s*{_NUMBER}|\s*%)?"
_WHOLE = re.compile(rf"\s*({_NUMBER})(?:\s*(?:/|out\s+of)\s*({_NUMBER})|\s*(%))?\s*", re.IGNORECASE)
_LABEL = r"(?:(?<![A-Za-z_])(?:score|rating)(?![A-Za-z_])|评分|分数|得分)"
_LABELED = re.compile(
    rf"""{_LABEL}["']?\s*+(?:[(\[][^()\[\]\n]*+[)\]]\s*+)?         # Score (0-10)
    (?:[ \t]*+(?:[:=|\n]|is\b|of\b|->|[→–—为是]))++\s*+             # is, :, ...
    (?P<open>["'(\[]?)\s*+(?P<value>{_FRACTION}|(?:{"|".join(_WORDS)})\b)
    (?P<more>\s*(?:[-–—~±]|to\b|or\b)\s*[0-9]|,[0-9]|\.[0-9]|[^\W\d])?""",
    re.IGNORECASE | re.VERBOSE,
)
_TAGS = re.compile(r"<(score|answer)>(?P<tag>[^<>]*)</\1>|\\boxed\{(?P<boxed>[^{}]*)\}", re.IGNORECASE)
WHOLE = {  # how whole answers end, in the terms of OpenAI, TGI, Anthropic, OpenAI's Responses, Cohere
    *("stop", "eos", "eos_token", "stop_sequence", "end_turn", "completed", "complete"),
}
CUT = "length"
REFUSAL = re.compile(r"\b(?:cannot|can not|can't|unable|won't|refuse[sd]?)\b", re.IGNORECASE)
_SENTENCE_END = re.compile(r"[.!?](?=\s)|\n")


def read_score(raw: str | None, scale_max: float, finish_reason: str = "stop") -> Reading:
    """The score in a judge's answer, on 0..`scale_max`.

    Args:
        raw: the answer as received; None if there was none.
        scale_max: the upper end of the scale in the question.
        finish_reason: the server's: one of `WHOLE`, or "length" for an answer cut at the token limit. After
            any other the answer is unscored.
    """
    if (reason := broken_off(finish_reason)) is not None:
        return Reading(None, reason)
    text = cleaned(raw or "")
    if not text.strip():
        return Reading(None, "the answer is empty")
    if "<think>" in text:
        return Reading(None, "the answer never ends its thinking")
    reading = _read(text, scale_max)
    cut_at_number = finish_reason.lower() == CUT and reading.value is not None and text[-1] in "0123456789./"
    # If one more digit would change the reading, the number may be incomplete: a 1 of a cut 10.
    if cut_at_number and _read(text + "5", scale_max) != reading:
        return Reading(None, "the answer was cut at its number")
    return reading


def broken_off(finish_reason: str) -> str | None:
    """Why an answer that ended so cannot be read; None for a whole answer and one cut at the token limit."""
    if finish_reason.lower() in (*WHOLE, CUT):
        return None
    return f"the answer ended with {finish_reason!r}"


def cleaned(raw: str) -> str:
    """The answer in plain characters, without finished thinking, code fences and zero-width characters."""
    text = unicodedata.normalize("NFKC", raw).translate(_PLAIN_CHARACTERS).rpartition("</think>")[2]
    return "\n".join(line for line in text.split("\n") if not re.fullmatch(r"\s*```\w*\s*", line))


def _read(text: str, scale_max: float) -> Reading:
    scores: list[Any] = []
    for value in relaxed_json.values(text):
        scores = _score_values(value) or scores  # the last JSON value with a score counts
    if scores:
        return _agreed([_number(score, scale_max) for score in scores], "the score of the JSON answer")
    text = re.sub(r"[*`]|^\s*#+", "", text, flags=re.MULTILINE)
    for read_source in (_tagged, _labeled, _fractions, _bare):
        reading = read_source(text, scale_max)
        if reading is not None:
            return reading
    return Reading(None, "the answer holds no score")


def _agreed(numbers: list[float | None], source: str) -> Reading:
    """The single value of all numbers; unscored if they differ or one is unreadable."""
    if any(number is None for number in numbers):
        return Reading(None, f"{source} is no number on the scale")
    if len(set(numbers)) > 1:
        return Reading(None, f"{source} has several values: {', '.join(map(str, numbers))}")
    return Reading(numbers[0])


def _score_values(value: Any) -> list[Any]:
    """The values of score keys at the shallowest level of a JSON value that has any.

    Keys named score or rating come before keys that only end with score.
    """
    level = [value]
    while level:
        exact, suffixed, entries = [], [], []
        for node in level:
            if not isinstance(node, dict):
                continue
            for key, entry in node.items():
                entries.append(entry)
                if key.strip().lower() in _SCORE_KEYS:
                    exact.append(entry)
                elif key.strip().lower().endswith("score"):
                    suffixed.append(entry)
        if exact or suffixed:
            return exact or suffixed
        for node in level:
            if isinstance(node, list):
                entries += node
        level = [entry for entry in entries if isinstance(entry, dict | list)]
    return []


def _number(value: Any, scale_max: float) -> float | None:
    """A value on 0..`scale_max`: a number, a number as text, or a list of one of these; else None."""
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
    denominator = float(match.group(2)) if match.group(2) is not None else 100.0
    if not (0 <= number <= denominator and 0 < denominator < float("inf")):
        return None
    return number * scale_max / denominator


def _tagged(text: str, scale_max: float) -> Reading | None:
    contents = [match.group("tag") or match.group("boxed") or "" for match in _TAGS.finditer(text)]
    if not contents or re.search(_LABEL, contents[-1], re.IGNORECASE):
        return None
    return _agreed([_number(contents[-1], scale_max)], "the tagged answer")


def _labeled(text: str, scale_max: float) -> Reading | None:
    matches = [match for match in _LABELED.finditer(text) if not _refused(text, match.start())]
    if not matches:
        return None
    last = matches[-1]
    number = None if last.group("more") else _number(last.group("value"), scale_max)
    return _agreed([number], "the labelled score")


def _refused(text: str, at: int) -> bool:
    """Whether the sentence around `at` refuses to answer before it ("I cannot give a score of 10")."""
    ends = [match.end() for match in _SENTENCE_END.finditer(text, 0, at)]
    return REFUSAL.search(text, ends[-1] if ends else 0, at) is not None


def _fractions(text: str, scale_max: float) -> Reading | None:
    scale = re.escape(f"{scale_max:g}")
    pattern = (
        rf"(?P<range>[0-9]\s*(?:[-–—~,]|to|or)\s*)?(?<![0-9.])(?P<value>{_NUMBER})"
        rf"\s*(?:/|out\s+of)\s*{scale}(?:\.0+)?(?![0-9/]|\.[0-9])"
    )
    numbers = []
    for match in re.finditer(pattern, text, re.IGNORECASE):
        if not _refused(text, match.start()):
            numbers.append(None if match.group("range") else _number(match.group("value"), scale_max))
    return _agreed(numbers, "the fraction") if numbers else None


def _bare(text: str, scale_max: float) -> Reading | None:
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    numbers = []
    for line in (*lines[:1], *lines[-1:]):
        if re.fullmatch(_NUMBER, line):
            numbers.append(_number_in_words(line, scale_max))
    return _agreed(numbers, "the bare number") if numbers else None
