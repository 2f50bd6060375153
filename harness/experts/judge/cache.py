"""Questions known by their content: equal ones are asked once, and answers may be kept on disk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from harness.files import write_text
from harness.types import Answer, Question

if TYPE_CHECKING:
    from PIL.Image import Image


class AnswerCache:
    """A folder of answers, one JSON file each; safe against kills and for several processes at once.

    `hits` and `misses` count the look-ups of this process.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).expanduser()
        self.hits = self.misses = 0

    def get(self, key: str) -> Answer | None:
        try:
            answer = Answer(**json.loads(self._file(key).read_text(encoding="utf-8")))
        except (
            FileNotFoundError,
            ValueError,
            TypeError,
        ):  # not there, or written by a machine that then lost power
            self.misses += 1
            return None
        self.hits += 1
        return answer

    def put(self, key: str, answer: Answer) -> None:
        write_text(self._file(key), json.dumps(asdict(answer)))

    def _file(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.json"


def ask_each_once(
    questions: Sequence[Question],
    settings: str,
    cache: AnswerCache | None,
    answer: Callable[[list[Question]], Iterable[tuple[int, Answer]]],
) -> list[Answer]:
    """One answer per question, in order; equal questions are asked once, those in the cache not at all.

    Args:
        questions: what to ask.
        settings: all that decides an answer beside the question: model, sampling, how it is put.
        cache: kept answers; failures are never kept.
        answer: gives (place, answer) for every question of a list, in any order; each is kept as it comes.
    """
    digests: dict[int, str] = {}
    keys = [_key(question, settings, digests) for question in questions]
    answers: dict[str, Answer] = {}
    if cache:
        answers = {key: kept for key in dict.fromkeys(keys) if (kept := cache.get(key)) is not None}
    first: dict[str, Question] = {}
    for key, question in zip(keys, questions, strict=True):
        if key not in answers:
            first.setdefault(key, question)
    order = list(first)
    for place, given in answer(list(first.values())) if order else ():
        answers[order[place]] = given
        if cache and given.failure is None:
            cache.put(order[place], given)
    return [answers[key] for key in keys]


def _key(question: Question, settings: str, digests: dict[int, str]) -> str:
    for image in question.images:
        if id(image) not in digests:  # an object is looked at once; it lives as long as its question
            digests[id(image)] = _digest(image)
    pictures = [digests[id(image)] for image in question.images]
    facts = [settings, question.text, question.lead, question.scored, question.attempt, pictures]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _digest(image: Image) -> str:
    sha = hashlib.sha256(f"{image.mode} {image.size} ".encode())
    sha.update(image.tobytes())
    return sha.hexdigest()
