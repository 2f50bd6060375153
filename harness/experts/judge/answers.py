"""The score in a judge's answer: a number on its scale, or explicitly none.

A wrong guess would poison training, and so would a zero. The rules, in this order: the last JSON value with
a score in it; tags around a number; a labeled number ("Score: 8"); a fraction of the scale ("8/10") or one
that is given ("I give this a 4 out of 5"); a bare number as first or last line. A scale that the answer names
is converted (`scales`). An ambiguous answer is unscored, never clipped: so is a total beside one other score.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Any

from harness.experts import relaxed_json
from harness.experts.judge.scales import (
    AFTER_LABEL,
    NUMBER,
    Scale,
    bracketed,
    grade_at,
    is_limit,
    named_scale,
    number_on,
    read_at,
    scale_behind,
    scale_of_key,
    scale_of_members,
)


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
_SCORE_KEYS = ("score", "rating", "评分", "分数", "得分", "打分", "总分", "評分", "分數", "總分")
_TOTALS = ("total", "overall", "final", "sum", "总计", "合计")
_FINAL = r"(?:final|overall|total|revised|最终|最後|最后|总体|總體|综合|总)"
_CJK_LABEL = r"(?:评分|分数|得分|打分|总分|評分|分數|總分)"
_LABEL = rf"(?:(?<![A-Za-z_])(?:score|rating)(?![A-Za-z_])|{_CJK_LABEL})"
_SEPARATOR = r"(?:[ \t]*+(?:[:=|\n]|is\b|of\b|->|[→–—为是為]))++\s*+[\"'(\[【]?\s*+"
_LABELED = re.compile(
    rf"""(?:(?P<final>(?<![A-Za-z_]){_FINAL})\s*+)?(?P<label>{_LABEL})["']?\s*+
    (?:[(\[](?P<bracket>[^()\[\]\n]*+)[)\]]\s*+                          # Score (0-10)
    |,?[ \t]*+(?P<phrase>{AFTER_LABEL})(?=[ \t]*(?:[:=]|is\b|[为是為])))?   # Score out of 10
    (?:{_SEPARATOR}|(?<=分|数|數)[ \t]*+(?=[0-9]|[零一二三四五六七八九十]分(?!\w)))    # 得分8分
    (?P<value>(?=[-+.0-9]|(?:zero|one|two|three|four|five|six|seven|eight|nine|ten)\b|[零一二三四五六七八九十]))
    |(?<![A-Za-z_])(?P<alone>final|overall|total)["']?\s*+[:=]\s*+(?P<number>(?=[0-9])
     (?![0-9.]++[ \t]++(?!(?:out|of|points?|stars?)\b)[a-z]))             # Overall: 3 objects""",
    re.IGNORECASE | re.VERBOSE,
)
_TAGS = re.compile(r"<(score|answer)>(?P<tag>[^<>]*)</\1>|\\boxed\{(?P<boxed>[^{}]*)\}", re.IGNORECASE)
_GIVEN = re.compile(  # the number that a judge gives in a sentence
    r"(?<!not\s)(?<!n't\s)(?<!never\s)\b"
    r"(?:gave|(?:giv|rat|scor|grad)(?:e|es|en|ed|ing)"
    r"|(?:assign|award|deserve|earn|receive|merit)(?:e?d|s)?)\b"
    r"[^.!?:;\n0-9]{0,60}?(?<![\w.-])"
    r"(?=[0-9]|(?:zero|one|two|three|four|five|six|seven|eight|nine|ten)\b)"
    r"|[给給打评評得][^。.!?:;\n0-9]{0,20}?(?=[0-9]|[零一二三四五六七八九十]分)",
    re.IGNORECASE,
)
_LIMIT = re.compile(r"\b(?:max(?:imum)?|min(?:imum)?|possible|highest|lowest)[ _]$", re.IGNORECASE)
_BEGINNING = re.compile(r"\W*(?:(?:the|my|a|json|answer)\b\W*)*", re.IGNORECASE)
WHOLE = {  # how whole answers end, in the terms of OpenAI, TGI, Anthropic, OpenAI's Responses, Cohere
    *("stop", "eos", "eos_token", "stop_sequence", "end_turn", "completed", "complete"),
}
CUT = "length"
EMPTY_AT_LIMIT = "the answer is empty: it ended at the token limit (raise judge.max_tokens)"
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
    cut = finish_reason.lower() == CUT
    text = cleaned(raw or "")
    if not text.strip():
        return Reading(None, EMPTY_AT_LIMIT if cut else "the answer is empty")
    if "<think>" in text:
        return Reading(None, "the answer never ends its thinking")
    reading = _read(text, scale_max, cut=cut)
    cut_at_number = cut and reading.value is not None and text[-1] in "0123456789./"
    # If one more digit would change the reading, the number may be incomplete: a 1 of a cut 10.
    if cut_at_number and _read(text + "5", scale_max, cut=cut) != reading:
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


@dataclass(frozen=True)
class _Text:
    """An answer to be read: its plain characters, the scale that it names, and whether it may be cut."""

    content: str
    scale: Scale
    cut: bool

    def counts(self, start: int, end: int) -> bool:
        """Whether a score from `start` to `end` is the answer's own.

        In a cut answer only one at its beginning or end is: in the middle it may be quoted.
        """
        if not self.cut or _BEGINNING.fullmatch(self.content, 0, start):
            return True
        return re.search(r"\w", self.content[end:]) is None


def _read(content: str, scale_max: float, *, cut: bool) -> Reading:
    scale = named_scale(content, scale_max)
    if scale is None:
        return Reading(None, "the answer names several scales")
    text, scores = _Text(content, scale, cut), None
    for value, start, end in relaxed_json.located(content):
        if text.counts(start, end):
            found = _score_values(value, scale_behind(content, end, scale))
            scores = found or scores  # the last JSON value with a score counts
    if scores:
        return _agreed(scores, "the score of the JSON answer")
    text = _Text(re.sub(r"[*`]|^\s*#+", "", content, flags=re.MULTILINE), scale, cut)
    for read_source in (_tagged, _labeled, _fractions, _bare):
        reading = read_source(text)
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


def _score_values(value: Any, scale: Scale) -> list[float | None]:
    """The values of score keys at the shallowest level of a JSON value that has any.

    Keys named score or rating come before keys that only end with score; among the latter, one that is called
    final, overall or total comes first. Members that name a scale hold for their object and those in it, and
    a key that names one ("score (0-5)") for its value. A number named only "total" may be the upper end of
    the scale, so it counts as one more score.
    """
    level: list[tuple[Any, Scale | None]] = [(value, scale)]
    while level:
        inner: list[tuple[Any, Scale | None]] = []
        exact: list[float | None] = []
        final: list[float | None] = []
        suffixed: list[float | None] = []
        totals: list[float | None] = []
        for node, outer in level:
            if isinstance(node, list):
                inner += [(entry, outer) for entry in node]
            if not isinstance(node, dict):
                continue
            own = scale_of_members(node, outer) if outer is not None else None
            for key, entry in node.items():
                inner.append((entry, own))
                name, said = scale_of_key(key, own) if own is not None else (key.strip().lower(), None)
                found = number_on(entry, said) if said is not None else None
                if name in _TOTALS and _has_number(entry):
                    totals.append(found)
                elif name in _SCORE_KEYS:
                    exact.append(found)
                elif name.endswith("score") and not is_limit(key):
                    (final if re.match(_FINAL, name) else suffixed).append(found)
        if exact or final or suffixed:
            return (exact or final or suffixed) + totals
        level = [(entry, own) for entry, own in inner if isinstance(entry, dict | list)]
    return []


def _has_number(entry: Any) -> bool:
    return isinstance(entry, int | float | str) and re.match(r"\s*[-+.0-9]", str(entry)) is not None


def _tagged(text: _Text) -> Reading | None:
    numbers, last = [], None
    for match in _TAGS.finditer(text.content):
        if text.counts(*match.span()):
            last = match.group("tag") or match.group("boxed") or ""
            numbers.append(number_on(last, text.scale))
    if last is None or re.search(_LABEL, last, re.IGNORECASE):
        return None
    readable = [number for number in numbers[:-1] if number is not None]
    return _agreed([*readable, numbers[-1]], "the tagged answer")


def _labeled(text: _Text) -> Reading | None:
    """The number after a label. Of several that differ, the one that is called final, overall or total."""
    final: list[float | None] = []
    other: list[float | None] = []
    totals: list[float | None] = []  # without another label: each may be the upper end of the scale
    labeled = False
    for match in _LABELED.finditer(text.content):
        if _LIMIT.search(text.content[max(0, match.start() - 12) : match.start()]):
            continue  # the end of the scale
        at = match.end("value") if match.group("label") else match.end("number")
        said = match.group("bracket") or match.group("phrase")
        scale = text.scale if said is None else bracketed(said, text.scale)
        number, end = read_at(text.content, at, scale or text.scale) or (None, at)
        if not _refused(text.content, match.start()) and text.counts(match.start(), end):
            is_total = match.group("alone") or match.group("label") in ("总分", "總分")
            found = totals if is_total else final if match.group("final") else other
            found.append(None if scale is None else number)
            labeled = labeled or match.group("label") is not None
    if not labeled:
        return None
    if len(set(final + other)) > 1:
        return _agreed(final or totals or other, "the labelled score")
    return _agreed(final + other + totals, "the labelled score")


def _refused(text: str, at: int) -> bool:
    """Whether the sentence around `at` refuses to answer before it ("I cannot give a score of 10")."""
    ends = [match.end() for match in _SENTENCE_END.finditer(text, 0, at)]
    return REFUSAL.search(text, ends[-1] if ends else 0, at) is not None


def _fractions(text: _Text) -> Reading | None:
    most = re.escape(f"{text.scale.most:g}")
    pattern = (
        rf"(?P<range>[0-9]\s*(?:[-–—~,⁄]|to|or)\s*)?(?<![0-9.⁄])(?P<value>{NUMBER})"
        rf"\s*(?:/|out\s+of)\s*{most}(?:\.0+)?(?![0-9/]|\.[0-9])"
    )
    numbers = []
    for match in re.finditer(pattern, text.content, re.IGNORECASE):
        if not _refused(text.content, match.start()) and text.counts(*match.span()):
            number = Scale(text.scale.most, text.scale.most).convert(float(match.group("value")))
            numbers.append(None if match.group("range") else number)
    for match in _GIVEN.finditer(text.content):
        found = grade_at(text.content, match.end(), text.scale)
        number, end = found or (None, match.end())
        if number is not None and not _refused(text.content, match.end()) and text.counts(match.start(), end):
            numbers.append(number)
    return _agreed(numbers, "the fraction") if numbers else None


def _bare(text: _Text) -> Reading | None:
    lines = [line.strip() for line in text.content.split("\n") if line.strip()]
    numbers = []
    for line in (*lines[:1], *lines[-1:]):
        found = read_at(line, 0, text.scale)
        if found is not None and found[1] == len(line) and line[0] in "+-.0123456789":
            numbers.append(found[0])
    return _agreed(numbers, "the bare number") if numbers else None
