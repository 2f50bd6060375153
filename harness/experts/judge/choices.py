"""The choice between A and B in a judge's answer: one of them, a tie, or explicitly none.

A guess would be a vote that nobody cast. The rules, in this order: the last JSON value with a choice in it;
the last line of the form "Selected Caption: A"; the last line of another label ("Winner: A"); a last line of
nothing but a choice ("Caption B"). Words behind a choice may give a reason. Where they may take the choice
back, where the choice is contradicted, and where the answer is cut, it is unreadable.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from harness.experts import relaxed_json
from harness.experts.judge.answers import CUT, EMPTY_AT_LIMIT, REFUSAL, broken_off, cleaned

Value = Literal["A", "B", "tie"]


@dataclass(frozen=True)
class Choice:
    """What a judge has chosen, or None and the reason in `unscored`."""

    value: Value | None
    unscored: str | None = None


_NOUN = r"(?:captions?|descriptions?|chains?|options?|answers?|texts?|responses?|candidates?)"
_LABEL = (
    rf"(?:(?:selected|selection|chosen|choice|winner|winning|preferred|preference|verdict|better|best)"
    rf"(?:[ _]?{_NOUN})?|(?:final[ _])?answer)"
)
_PREFIX = r"(?:(?:so|thus|therefore|hence|the|my|your|final|overall)\b,?[ _]*)*"
_KEY = re.compile(rf"{_PREFIX}{_LABEL}", re.IGNORECASE)
_SEPARATOR = r"[\"']?[ \t]*(?:[:=\n]|->|[-–—](?=\s)|\bis\b)\s*"
_SELECTED = re.compile(rf"(?<![\w-])selected(?:[ _]{_NOUN})?{_SEPARATOR}(?P<value>[^\n]*)", re.IGNORECASE)
_OTHERS = re.compile(
    rf"^[ \t\"'>+-]*{_PREFIX}{_LABEL}{_SEPARATOR}(?P<value>[^\n]*)", re.IGNORECASE | re.MULTILINE
)
_NEXT_PART = re.compile(r"\s+(?:reasons?|reasoning|rationale|explanation|justification)\s*:.*", re.IGNORECASE)
_NOT = re.compile(r"\b(?:not|never|no|isn't|wasn't)\s+$", re.IGNORECASE)
_MARKUP = re.compile(r"[*`$]|^[ \t]*#+|(?<!\w)_+(?=\w)|(?<=\w)_+(?!\w)", re.MULTILINE)
_LATEX = re.compile(r"\\(?:boxed|text|textbf|mathbf|mathrm)\{([^{}]*)\}")
_LETTER = re.compile(
    rf"[\"'(\[<{{]*(?:(?:the|selected|better|best|preferred)\s+)*(?:(?i:{_NOUN})\s*[:#]?\s*)?[\"'(\[<{{]*"
    r"(?P<letter>[ABab])(?![A-Za-z0-9])(?P<rest>.*)",
    re.DOTALL,
)
_EQUAL = r"(?:tie|tied|draw|both|neither|equal|equally|equivalent|same|no\s+preference)"
_FILLER = rf"(?:{_NOUN}|are|is|it|of|them|the|two|in|one|ones|good|better|best|bad|well|quality|{_EQUAL})"
_BOTH = rf"(?:a\s+(?:and|&)\s+(?:{_NOUN}\s+)?b|b\s+(?:and|&)\s+(?:{_NOUN}\s+)?a)"
_TIE = re.compile(
    rf"[\"'(\[<{{]*(?:(?:it\s+is|it's|a|an|the|they\s+are)\s+)*"
    rf"(?:{_EQUAL}|(?:{_NOUN}\s+)?{_BOTH})(?![A-Za-z])"
    rf"(?:\s+(?:{_BOTH}|{_FILLER})(?![A-Za-z]))*(?P<rest>.*)",
    re.IGNORECASE | re.DOTALL,
)
_END = re.compile(r"[\s.,;!)\]>}\"']*")
_BETTER = re.compile(rf"\s+is\s+(?:clearly\s+|the\s+)*(?:better|best|preferred|winner)(?:\s+{_NOUN})?", re.I)
_PAUSE = re.compile(r"[\"')\]>}]*\s*(?:[.:;,!(]|[-–—](?=\s))")
_REASON = re.compile(r"[\s,;(–—-]*(?:because|since|as)\b", re.IGNORECASE)
_MENTION = re.compile(r"(?<![A-Za-z0-9])[AB](?![A-Za-z0-9])")
_DOUBT = re.compile(
    r"\b(?:but|however|although|though|yet|instead|rather|unless|if|not|n't|or|wait|actually)\b",
    re.IGNORECASE,
)


def read_choice(raw: str | None, *, ties: bool, finish_reason: str = "stop") -> Choice:
    """Return the choice in a judge's answer.

    Args:
        raw: the answer as received; None if there was none.
        ties: whether a tie is a choice.
        finish_reason: the server's. An answer that was cut or broken off is unreadable.
    """
    if (reason := broken_off(finish_reason)) is not None:
        return Choice(None, reason)
    cut = finish_reason.lower() == CUT
    text = cleaned(raw or "")
    if not text.strip():
        return Choice(None, EMPTY_AT_LIMIT if cut else "the answer is empty")
    if cut:
        return Choice(None, "the answer was cut at the token limit (raise judge.max_tokens)")
    if "<think>" in text:
        return Choice(None, "the answer never ends its thinking")
    choice = _read(text)
    if choice.value == "tie" and not ties:
        return Choice(None, "the answer is a tie, and the question allows none")
    return choice


def _read(text: str) -> Choice:
    found, end = None, 0
    for value, start, stop in relaxed_json.located(text):
        values = _values(value)
        if values:
            found, end = _of_json(value, values, text[start:stop]), stop
    plain = _MARKUP.sub("", _LATEX.sub(r"\1", text[end:]))
    for pattern in (_SELECTED, _OTHERS):
        lines = list(_labeled(plain, pattern))
        if lines:
            return _agreed(found, _choice(lines[-1]))
    return found or _bare(plain)


def _agreed(found: Choice | None, later: Choice) -> Choice:
    """The choice of a JSON value if there is one, which a line after it must not contradict."""
    if found is None:
        return later
    if found.value is not None and later.value not in (None, found.value):
        return Choice(None, "the answer contradicts itself")
    return found


def _values(value: Any) -> list[Any]:
    """The values of choice keys at the shallowest level of a JSON value that has any."""
    level = [value]
    while level:
        found: list[Any] = []
        inner: list[Any] = []
        for node in level:
            members = node.items() if isinstance(node, dict) else ()
            found += [entry for key, entry in members if _names_choice(key)]
            inner += node if isinstance(node, list) else [entry for _, entry in members]
        if found:
            return found
        level = [entry for entry in inner if isinstance(entry, dict | list)]
    return []


def _names_choice(key: str) -> bool:
    return _KEY.fullmatch(re.sub(r"[\W_]+", " ", key).strip()) is not None


def _of_json(value: Any, values: list[Any], source: str) -> Choice:
    if getattr(value, "cut", False):
        return Choice(None, "the answer ends within its JSON value")
    if _has_double_key(source):
        return Choice(None, "the JSON answer has two choices")
    choices = [_choice(one) for one in values]
    if len(set(choices)) > 1:
        return Choice(None, "the JSON answer has two choices")
    return choices[0]


def _has_double_key(source: str) -> bool:
    """Whether an object of strict JSON has a key of a choice twice, of which parsers keep the last only."""
    doubles = []

    def note(members: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [key for key, _ in members if _names_choice(key)]
        doubles.append(len(names) > len(set(names)))
        return dict(members)

    try:
        json.loads(source, object_pairs_hook=note, strict=False)
    except ValueError:  # relaxed JSON
        return False
    return any(doubles)


def _labeled(text: str, pattern: re.Pattern[str]) -> Iterator[str]:
    """Yields what stands behind the labels of a text, without those that are denied or refused."""
    for match in pattern.finditer(text):
        line = text[text.rfind("\n", 0, match.start()) + 1 : match.start()]
        sentence = re.split(r"[.!?]\s", line)[-1]
        if not _NOT.search(sentence) and not REFUSAL.search(sentence):
            yield _NEXT_PART.sub("", match.group("value"))


def _bare(text: str) -> Choice:
    """The choice of a last line that holds nothing else; a first line of the same kind must agree."""
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    choices = [_whole(line) for line in (*lines[:1], *lines[-1:])]
    if not choices or choices[-1] is None:
        refused = REFUSAL.search(text) is not None
        return Choice(None, "the answer refuses to choose" if refused else "the answer holds no choice")
    if choices[0] not in (None, choices[-1]):
        return Choice(None, "the answer contradicts itself")
    return Choice(choices[-1])


def _whole(line: str) -> Value | None:
    """The choice that a line consists of."""
    match = _LETTER.match(line) or _TIE.match(line)
    if match is None or not _END.fullmatch(match["rest"]):
        return None
    letter = match.groupdict().get("letter")
    return _VALUES.get(letter) if letter else "tie"


_VALUES: dict[str, Value] = {"A": "A", "B": "B"}


def _choice(said: Any) -> Choice:
    """The choice that the value of a key or label says, perhaps with a reason behind it."""
    if isinstance(said, list) and len(said) == 1:
        said = said[0]
    if not isinstance(said, str):
        return Choice(None, "the choice is neither A nor B nor a tie")
    text = _MARKUP.sub("", _LATEX.sub(r"\1", said)).strip()
    for pattern in (_TIE, _LETTER):
        match = pattern.match(text)
        if match is None:
            continue
        letter = match.groupdict().get("letter")
        if not _is_settled(match["rest"], lower=letter in ("a", "b")):
            continue
        return Choice(_VALUES[letter.upper()] if letter else "tie")
    return Choice(None, f"the choice {text[:40]!r} is not clearly A, B or a tie")


def _is_settled(rest: str, *, lower: bool) -> bool:
    """Whether the words behind a choice leave it as it is: none, or a reason without doubt or other letter.

    Args:
        rest: the words.
        lower: the choice is a lower-case letter, which may begin another word ("a red circle").
    """
    if _END.fullmatch(rest):
        return True
    if lower:
        return False
    better = _BETTER.match(rest)
    behind = rest[better.end() :] if better else rest
    if better and _END.fullmatch(behind):
        return True
    if _REASON.match(behind):
        return not _DOUBT.search(behind)
    return _PAUSE.match(behind) is not None and not _DOUBT.search(behind) and not _MENTION.search(behind)
