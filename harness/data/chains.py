"""Converts chains as GoT data sets write them to the grammar of `harness.chain`.

The box of an object follows its name directly, in one of these forms. A chain may mix them:

    A <|obj_start|>red vase<|obj_end|> <|box_start|>(120,45),(380,600)<|box_end|> on a table
    A <|object_ref_start|>red vase<|object_ref_end|><|box_start|>(120,45),(380,600)<|box_end|> on a table
    A red vase <|box_start|>(120,45),(380,600)<|box_end|> on a table
    A red vase (120,45),(380,600) on a table

The first form is the grammar itself, the second has the tags of Qwen2-VL. An unmarked name consists of
the words before the box, back to the last word or sign that cannot be part of a name: punctuation, an
article, a preposition except "of", a conjunction, or a verb that captions use. This is a rule of thumb
for English; tagged chains do not need it. A chain that cannot be read with certainty is refused, never
repaired.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from harness.chain import (
    BOX_END,
    BOX_START,
    END,
    OBJ_END,
    OBJ_START,
    format_chain,
    parse,
    without_control_tokens,
)
from harness.types import Box, PlannedObject

Parts = Sequence[str | PlannedObject]

SYNONYMS = {"<|object_ref_start|>": OBJ_START, "<|object_ref_end|>": OBJ_END}
TAGS = {OBJ_START, OBJ_END, BOX_START, BOX_END}
SHOWN = 80  # characters of a chain in a message
NAME_WORDS = 10  # an unmarked name with more words is a clause whose end the rule of thumb missed

# Possessive quantifiers keep every search linear, whatever the noise.
_NUMBER = r"([-+]?[0-9]++(?:\.[0-9]++)?)"
_CORNER = rf"\(\s*+{_NUMBER}\s*+,\s*+{_NUMBER}\s*+\)"
_OBJECT = re.compile(
    rf"(?:{re.escape(OBJ_START)}(?P<name>[^<]*+){re.escape(OBJ_END)}\s*+)?+"
    rf"(?P<start>{re.escape(BOX_START)}\s*+)?+{_CORNER}\s*+,?\s*+{_CORNER}(?P<end>\s*+{re.escape(BOX_END)})?"
)
_CONTROL = re.compile(r"<[|｜][^|｜<>]*+[|｜]>")
_COORDINATES = re.compile(r"[(\[]\s*+[-+]?[0-9.]++\s*+(?:,\s*+[-+]?[0-9.]++\s*+){1,3}+[)\]]")
_WORD = re.compile(r"[^\s.,;:!?()\[\]<>\"“”—|]++")

# Words that end an unmarked name on its left.
_LEFT_OF_NAMES = """
a an the this that these those its his her their our your my some another each every both several many in
on at by with within without under over above below beneath beside besides behind before near into onto
from to toward towards through across along around against between among amid amidst inside outside atop
upon beyond past off up down out for as like and or but while where which who whose when then there here
also it they he she is are was were be being has have had features feature featuring shows show showing
depicts depict depicting showcases showcase showcasing contains contain containing includes include
including holds hold holding wears wear wearing sits sit sitting stands stand standing lies lie lying
rests rest resting hangs hang hanging displays display displaying presents present presenting covers
covering surrounds surrounding adorned accompanied surrounded placed positioned located situated seen
visible set
"""
_BEFORE_NAMES = frozenset(_LEFT_OF_NAMES.split())


def convert(text: str) -> str:
    """Return the chain in the grammar, ended by begin-of-image.

    A chain that follows the grammar already comes back unchanged, except for spaces around it.

    Raises:
        ValueError: see `read` and `write`.
    """
    return write(read(text))


def write(parts: Parts) -> str:
    """Return the exact chain of free text and objects.

    Raises:
        ValueError: the chain has a fault in the grammar.
    """
    chain = format_chain(*parts)
    if faults := parse(chain).faults:
        raise ValueError(f"the chain is faulty: {'; '.join(faults)}")
    return chain


def read(text: str) -> list[str | PlannedObject]:
    """Return free text and objects, in order; every object has a box.

    Raises:
        ValueError: the chain has no object with a box, an object has no box, or tags or coordinates are left
            over; or a box has no name, reaches outside 0..1000, has swapped corners, is empty or is not
            written in whole numbers.
    """
    for tag, own_tag in SYNONYMS.items():
        text = text.replace(tag, own_tag)
    unknown = set(_CONTROL.findall(text)) - TAGS
    if unknown:
        raise ValueError(f"the chain holds {', '.join(sorted(unknown))}, which the grammar does not know")
    chain, _, rest = text.partition(END)
    if rest.strip():
        raise ValueError(f"there is text after {END}: {_short(rest)!r}")
    parts = [part for part in _parts(chain.strip()) if part != ""]
    for part in parts:
        _check_no_leftovers(part if isinstance(part, str) else part.name)
    if not any(isinstance(part, PlannedObject) for part in parts):
        raise ValueError(f"no object with a box in the chain {_short(chain)!r}")
    return parts


def _parts(chain: str) -> Iterator[str | PlannedObject]:
    position = 0
    for number, match in enumerate(_OBJECT.finditer(chain), start=1):
        before, position = chain[position : match.start()], match.end()
        if bool(match["start"]) != bool(match["end"]):
            raise ValueError(f"box {number} has only one of its two tags: {_short(match.group())!r}")
        if match["name"] is None:
            before, name = _split_name(before, number)
        else:
            name = match["name"].strip()
        if not name:
            raise ValueError(f"box {number} belongs to an object without a name")
        yield before
        yield PlannedObject(name=name, box=_box(match.group(3, 4, 5, 6), number))
    yield chain[position:]


def _split_name(before: str, number: int) -> tuple[str, str]:
    """Split the text before a box whose name is unmarked into the text that stays and the name."""
    words = list(_WORD.finditer(before))
    end = len(before.rstrip())
    if not words or words[-1].end() != end or words[-1].group().lower() in _BEFORE_NAMES:
        raise ValueError(f"box {number} has no name of its own before it: {_short(before, last=True)!r}")
    first = len(words) - 1
    while first > 0 and not _separates(before, words[first - 1], words[first]):
        first -= 1
    if words[first].group().lower() == "of":
        first += 1
    if not 0 < len(words) - first <= NAME_WORDS:
        raise ValueError(
            f"the name of box {number} is unclear in the words before it: {_short(before, last=True)!r}"
        )
    return before[: words[first].start()], before[words[first].start() : end]


def _separates(text: str, left: re.Match[str], right: re.Match[str]) -> bool:
    """Whether a name ends between two neighboring words."""
    return left.group().lower() in _BEFORE_NAMES or bool(text[left.end() : right.start()].strip())


def _box(corners: tuple[str, ...], number: int) -> Box:
    if not all(corner.lstrip("+-").isdecimal() for corner in corners):
        raise ValueError(
            f"box {number} is ({','.join(corners)}): coordinates are whole numbers from 0 to 1000"
        )
    box = Box(*(int(corner) for corner in corners))
    if not box.area:
        raise ValueError(f"box {number} is empty: ({','.join(corners)})")
    return box


def _check_no_leftovers(text: str) -> None:
    if without_control_tokens(text) != text:
        raise ValueError(f"a tag belongs to no object with a box, in {_short(text)!r}")
    coordinates = _COORDINATES.search(text)
    if coordinates:
        raise ValueError(f"these coordinates are no box of the form (x1,y1),(x2,y2): {coordinates.group()!r}")


def _short(text: str, *, last: bool = False) -> str:
    if len(text) <= SHOWN:
        return text
    return f"...{text[-SHOWN:]}" if last else f"{text[:SHOWN]}..."
