"""Numeracy (`UniDet_eval/numeracy_eval.py`): whether the objects are there, in the stated number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from benchmarks.mode import Mode
from benchmarks.t2i_compbench.rules.nouns import PERSONS, bearing
from harness.files import read_user_text
from harness.types import Detections

SAME = 0.9  # two boxes that share more than this of either one, or of both, are one thing
NUMBERS = {
    "a": 1,
    "an": 1,
    "one": 1,
    "two": 2,
    "three": 3,
    "four": 4,
    "five": 5,
    "six": 6,
    "seven": 7,
    "eight": 8,
}
ARTICLES = ("a", "an")
ONE = (*ARTICLES, "one")
RENAMED = {
    **dict.fromkeys(PERSONS, "person"),
    "ship": "boat",
    "telivision": "tv",  # so spelled in the official script: a television keeps its name
    "goldfish": "fish",
    "painting": "picture",
}


@dataclass(frozen=True)
class Nouns:
    """What can be counted: the k-th singular and the k-th plural are one noun. A noun may stand there
    twice.
    """

    singulars: tuple[str, ...]
    plurals: tuple[str, ...]

    @classmethod
    def read(cls, file: Path) -> Nouns:
        """Reads `new_objects.txt`: a line `singular - plural` for each noun.

        Raises:
            ValueError: a line is not of that form.
        """
        singulars, plurals = [], []
        for number, line in enumerate(read_user_text(file).splitlines(), start=1):
            words = [part.strip().lower() for part in line.split(" - ")]
            if len(words) < 2:
                raise ValueError(
                    f"line {number} of {file} is {line!r}: give `singular - plural`, or take the file "
                    "as it was published"
                )
            singulars.append(words[0])
            plurals.append(words[1])
        return cls(tuple(singulars), tuple(plurals))

    def __contains__(self, name: str) -> bool:
        return name in self.singulars or name in self.plurals

    def singular(self, plural: str) -> str:
        """Of the first noun with that plural."""
        return self.singulars[self.plurals.index(plural)]


@dataclass(frozen=True, kw_only=True)
class NumeracyScore:
    """The score of one image, and how it came about.

    `asked` are the nouns of the prompt with their counts; official mode knows no count where the official
    parser lost it. `counted` is how many there are of each, `kept` which detections were left when
    duplicates were taken out.
    """

    value: float
    asked: tuple[tuple[str, int | None], ...]
    counted: tuple[int, ...]
    kept: tuple[int, ...]


def score_numeracy(
    tokens: Sequence[str], detections: Detections, nouns: Nouns, *, mode: Mode
) -> NumeracyScore:
    """Half of each noun's share for being there, the other half for being there as often as asked.

    Args:
        tokens: the prompt as spaCy's tokenizer cuts it.
        detections: by falling score; the scores themselves do not count.
        nouns: what can be counted.
        mode: official looks for the exact label, or where there is none renames all labels that hold the
            noun's letters, for later nouns too (Q14); corrected goes by the alias table, and takes one
            box under two of a noun's labels once.

    Raises:
        ValueError: the prompt asks for nothing that can be counted, or official mode: the official script
            stops at it.
    """
    asked = _official_parse(tokens, nouns) if mode == "official" else _corrected_parse(tokens, nouns)
    if not asked:
        raise ValueError(
            f"{' '.join(tokens)!r} asks for nothing that can be counted: no number word stands before "
            "a listed noun"
        )
    kept = without_duplicates(detections.boxes, detections.labels)
    labels = [detections.labels[place] for place in kept]
    boxes = [detections.boxes[place] for place in kept]
    names = [name for name, _ in asked]
    counted = (
        _official_counts(names, labels)
        if mode == "official"
        else [_distinct(name, labels, boxes) for name in names]
    )
    value, share = 0.0, 1.0 / len(asked)
    for (name, wanted), there in zip(asked, counted, strict=True):
        if there:
            if wanted is None:
                raise ValueError(
                    f"{' '.join(tokens)!r}: the official script stops at {name!r}, whose count it lost "
                    "to an article before a plural"
                )
            value += 0.5 * share
            value += 0.5 * share if there == wanted else 0.0
    return NumeracyScore(value=value, asked=tuple(asked), counted=tuple(counted), kept=kept)


def without_duplicates(boxes: Sequence[Sequence[float]], labels: Sequence[str]) -> tuple[int, ...]:
    """The places of boxes that are no duplicate of an earlier one that was itself left in, with the same
    label.

    Two boxes are duplicates if they share more than 0.9 of their union, of the one or of the other, all
    sides one pixel longer than their coordinates say. `boxes` are x1, y1, x2, y2.
    """
    left: list[int] = []
    left_of: dict[str, list[tuple[float, float, float, float, float]]] = {}  # by label: boxes and their areas
    for place, ((x1, y1, x2, y2), label) in enumerate(zip(boxes, labels, strict=True)):
        area, earlier = (x2 - x1 + 1) * (y2 - y1 + 1), left_of.setdefault(label, [])
        for left_x1, left_y1, left_x2, left_y2, left_area in earlier:
            width = (x2 if x2 < left_x2 else left_x2) - (x1 if x1 > left_x1 else left_x1) + 1
            height = (y2 if y2 < left_y2 else left_y2) - (y1 if y1 > left_y1 else left_y1) + 1
            if width > 0 and height > 0:
                shared = width * height
                if (
                    shared / area > SAME
                    or shared / left_area > SAME
                    or shared / (area + left_area - shared) > SAME
                ):
                    break
        else:
            left.append(place)
            earlier.append((x1, y1, x2, y2, area))
    return tuple(left)


def _official_parse(tokens: Sequence[str], nouns: Nouns) -> list[tuple[str, int | None]]:
    """Nouns and counts apart, as the official parser collects them: a count that it cannot read leaves
    its place to the next.
    """
    names: list[str] = []
    counts: list[int] = []
    for place, number in enumerate(tokens):
        if number not in NUMBERS:
            continue
        if place + 1 == len(tokens):
            raise ValueError(
                f"{' '.join(tokens)!r} ends in the number word {number!r}: the official script stops "
                "at such a prompt"
            )
        pair, word = " ".join(tokens[place + 1 : place + 3]), tokens[place + 1]
        if place + 2 < len(tokens) and pair in nouns:
            is_plural = pair in nouns.plurals and number not in ONE
            names.append(nouns.singular(pair) if is_plural else pair)
            counts.append(NUMBERS[number] if is_plural else 1)
        elif word in nouns.singulars and number in ONE:
            names.append(word)
            counts.append(1)
        elif word in nouns.plurals:
            names.append(nouns.singular(word))
            counts += [] if number in ARTICLES else [NUMBERS[number]]
        elif word in nouns:
            raise ValueError(
                f"{' '.join(tokens)!r}: the official script stops at {number} {word!r}, a singular "
                "after a number"
            )
    return list(zip_longest(names, counts))


def _corrected_parse(tokens: Sequence[str], nouns: Nouns) -> list[tuple[str, int | None]]:
    """Every listed noun right after a number word, with what that word says, singular or plural."""
    words = [token.lower() for token in tokens]
    asked: list[tuple[str, int | None]] = []
    for place, number in enumerate(words):
        if number in NUMBERS:
            names = (" ".join(words[place + 1 : place + 3]), *words[place + 1 : place + 2])
            asked += [
                (nouns.singular(name) if name in nouns.plurals else name, NUMBERS[number])
                for name in names
                if name in nouns
            ][:1]
    return asked


def _official_counts(names: Sequence[str], labels: list[str]) -> list[int]:
    """How many labels equal each noun; labels are renamed as official mode does, in place."""
    counted = []
    for name in names:
        name = RENAMED.get(name, name)
        if name not in labels:
            labels[:] = [name if name in label else label for label in labels]
        counted.append(labels.count(name))
    return counted


def _distinct(name: str, labels: Sequence[str], boxes: Sequence[Sequence[float]]) -> int:
    """How many boxes have a label that the noun goes by; several such labels of one box are one thing."""
    found = [boxes[place] for place in bearing(name, labels)]
    return len(without_duplicates(found, [name] * len(found)))
