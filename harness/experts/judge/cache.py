"""Questions identified by content: equal ones are asked once, and answers can be kept on disk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from harness.files import write_text
from harness.paths import user_path
from harness.types import Answer, Question

if TYPE_CHECKING:
    from PIL.Image import Image


class AnswerCache:
    """A folder with one JSON file per answer. Several processes can use it; a kill leaves no partial file.

    `hits` and `misses` count the lookups of this process.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = user_path(folder)
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
    """One answer per question, in order. Equal questions are asked once, and those in the cache not at all.

    Args:
        questions: the questions to answer.
        settings: everything besides the question that decides an answer: model, sampling, request format.
        cache: answers of earlier calls; failures are never kept.
        answer: yields (index, answer) for every question of a list, in any order; each is kept at once.
    """
    digests: dict[int, str] = {}
    keys = [_key(question, settings, digests) for question in questions]
    answers: dict[str, Answer] = {}
    pending: dict[str, Question] = {}
    for key, question in zip(keys, questions, strict=True):
        if key in answers or key in pending:
            continue
        cached = cache.get(key) if cache else None
        if cached is None:
            pending[key] = question
        else:
            answers[key] = cached
    if pending:
        pending_keys = list(pending)
        for index, new_answer in answer(list(pending.values())):
            key = pending_keys[index]
            answers[key] = new_answer
            if cache and new_answer.failure is None:
                cache.put(key, new_answer)
    return [answers[key] for key in keys]


def _key(question: Question, settings: str, digests: dict[int, str]) -> str:
    """The question's content and the settings as one hash; `digests` caches those of images by `id`."""
    for image in question.images:
        if id(image) not in digests:  # the image lives as long as its question, and so does its id
            digests[id(image)] = _digest(image)
    images = [digests[id(image)] for image in question.images]
    facts = [settings, question.text, question.lead, question.scored, question.attempt, images]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _digest(image: Image) -> str:
    sha = hashlib.sha256(f"{image.mode} {image.size} ".encode())
    sha.update(image.tobytes())
    return sha.hexdigest()
