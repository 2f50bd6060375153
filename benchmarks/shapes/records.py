"""GoT training records: prompt, chain and image, where chain and image always agree with each other.

A stated share of the records is unfaithful, as the SFT data of the paper is: chain and image contradict
the prompt (attributes swapped or changed, relation reversed, an object missing).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from itertools import count
from random import Random

from benchmarks.shapes.facts import Facts
from benchmarks.shapes.prompts import sample_facts, write_prompt
from benchmarks.shapes.relations import OPPOSITE
from benchmarks.shapes.render import render
from benchmarks.shapes.scene import Scene, sample_scene
from benchmarks.shapes.scoring import score_detections
from benchmarks.shapes.vocabulary import COLORS, SHAPES, TEXTURES
from harness.types import Prompt, Record

REVERSED_SHARE = 0.5  # of the unfaithful records of a prompt whose relation has an opposite

_VALUES = {"shape": SHAPES, "color": tuple(COLORS), "texture": TEXTURES}


def stream(
    seed: int, categories: Sequence[str], unfaithful_share: float, held_out: Collection[str]
) -> Iterator[Record]:
    """Endless records; no prompt's text is in `held_out`."""
    rng = Random(f"shapes records {seed}")
    for number in count():
        category = rng.choice(categories)
        while True:
            facts = sample_facts(rng, category)
            text = write_prompt(facts, category)
            if text not in held_out:
                break
        faithful = rng.random() >= unfaithful_share
        scene = sample_scene(rng, facts) if faithful else contradict(rng, facts, category)
        prompt = Prompt(
            id=f"{category}-record-{number:06d}", text=text, category=category, facts=facts.plain()
        )
        yield Record(prompt=prompt, chain=scene.chain(), image=render(scene), faithful=faithful)


def contradict(rng: Random, facts: Facts, category: str) -> Scene:
    """A scene that is nearly what the facts say, but whose own score under them is below 1."""
    while True:
        reverse = facts.relation in OPPOSITE and rng.random() < REVERSED_SHARE
        changed = _reverse(rng, facts) if reverse else rng.choice(_CHANGES)(rng, facts)
        scene = sample_scene(rng, changed)
        value = score_detections(category, facts, scene.detections()).value
        if value is not None and value < 1:
            return scene


def _reverse(rng: Random, facts: Facts) -> Facts:
    return replace(facts, relation=OPPOSITE[facts.relation or ""])


def _swap(rng: Random, facts: Facts) -> Facts:
    """Exchanges what is said of one attribute between two objects."""
    key = rng.choice(tuple(_VALUES))
    first, second = rng.sample(range(len(facts.objects)), 2)
    objects = list(facts.objects)
    a, b = objects[first], objects[second]
    objects[first], objects[second] = (
        replace(a, **{key: getattr(b, key)}),
        replace(b, **{key: getattr(a, key)}),
    )
    return replace(facts, objects=tuple(objects))


def _change(rng: Random, facts: Facts) -> Facts:
    """Gives one attribute of one object another value."""
    objects = list(facts.objects)
    index = rng.randrange(len(objects))
    key, value = rng.choice(objects[index].stated())
    objects[index] = replace(
        objects[index], **{key: rng.choice([other for other in _VALUES[key] if other != value])}
    )
    return replace(facts, objects=tuple(objects))


def _drop(rng: Random, facts: Facts) -> Facts:
    """Leaves out one object, and the relation with it if it was part of it."""
    index = rng.randrange(len(facts.objects))
    rest = facts.objects[:index] + facts.objects[index + 1 :]
    return replace(facts, objects=rest) if index >= 2 else Facts(objects=rest)


_CHANGES: tuple[Callable[[Random, Facts], Facts], ...] = (_swap, _change, _drop)
