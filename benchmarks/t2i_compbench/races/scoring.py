"""The races of `harness.bench score`: BLIP-VQA against the official way, the detectors, and the rules
over 3000 images.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from random import Random

import numpy as np

from benchmarks.t2i_compbench.language.tokens import Token
from benchmarks.t2i_compbench.races.unidet import unidet_races
from benchmarks.t2i_compbench.races.vqa import vqa_race
from benchmarks.t2i_compbench.rules.depth import score_3d
from benchmarks.t2i_compbench.rules.frame import frame_size
from benchmarks.t2i_compbench.rules.merge import merge
from benchmarks.t2i_compbench.rules.numeracy import Nouns, score_numeracy
from benchmarks.t2i_compbench.rules.questions import clean, product, questions
from benchmarks.t2i_compbench.rules.spatial import score_2d
from harness.protocols import Race
from harness.types import Detections

IMAGES = 3000
BOXES = 100  # of an image; UniDet gives between a few and 300
OTHERS = 60  # labels beside those of the prompt


def races() -> Iterator[Race]:
    """The models first, then each rule alone: it has no other system to run against."""
    yield from vqa_race()
    yield from unidet_races()
    found = [_found(Random(f"race {number}")) for number in range(IMAGES)]
    for name, rule in _rules(found).items():
        yield Race(
            work=f"Scoring rules of T2I-CompBench, {BOXES} detections an image",
            setting=name,
            amount=IMAGES,
            unit="images",
            counts={"rule": IMAGES},
            count_unit="images",
            systems={"rules": partial(_timed, rule)},
        )


def _rules(found: list[Detections]) -> Mapping[str, Callable[[], object]]:
    """Name -> the rule applied to every image."""
    width, height = found[0].frame
    depth = np.linspace(0, 1, width * height, dtype=np.float32).reshape(height, width)
    left, front = (_tokens(f"a dog {words} a cat") for words in ("on the left of", "in front of"))
    nouns = Nouns(singulars=("dog", "cat"), plurals=("dogs", "cats"))
    chunks = ("the red dog", "the side", "the small cat", "a wooden bench", "the park")
    answers = (0.9, 0.8, 0.95, 0.4)
    return {
        "2D-spatial": lambda: [
            score_2d("a dog on the left of a cat", left, one, complex_prompt=False, mode="official")
            for one in found
        ],
        "3D-spatial": lambda: [
            score_3d("a dog in front of a cat", front, one, depth, mode="official") for one in found
        ],
        "numeracy": lambda: [
            score_numeracy(["two", "dogs", "and", "a", "cat"], one, nouns, mode="official") for one in found
        ],
        "BLIP-VQA, 3-in-1": lambda: [_attributes(chunks, answers) for _ in found],
    }


def _attributes(chunks: tuple[str, ...], answers: tuple[float, ...]) -> float:
    asked = [clean(question) for question in questions(chunks, mode="official")]
    value = product(answers[: len(asked)], mode="official")
    assert value is not None, "official mode scores every prompt"
    return merge("both", value, 0.7, 0.3, mode="official")


def _tokens(prompt: str) -> list[Token]:
    return [Token(word, "NOUN" if word in ("dog", "cat") else "ADP") for word in prompt.split()]


def _found(rng: Random) -> Detections:
    """Detections of random boxes, in which dogs and cats come last and many: what takes a rule longest."""
    frame = frame_size(512, 512)
    corners = [(rng.uniform(0, 300), rng.uniform(0, 300)) for _ in range(BOXES)]
    labels = [f"thing {rng.randrange(OTHERS)}" for _ in range(BOXES - 20)] + ["dog", "cat"] * 10
    return Detections(
        frame=frame,
        labels=tuple(labels),
        boxes=tuple((x, y, x + rng.uniform(5, 170), y + rng.uniform(5, 170)) for x, y in corners),
        scores=tuple(sorted((rng.uniform(0.1, 1) for _ in range(BOXES)), reverse=True)),
    )


def _timed(rule: Callable[[], object]) -> dict[str, float]:
    began = time.perf_counter()
    rule()
    return {"rule": time.perf_counter() - began}
