"""A judge of the shapes world that errs as real ones do.

Every error has a setting of its own. It is decided by a random stream of the judge's seed, the question's
kind, the prompt and what is judged, so an answer depends neither on its batch nor on the process.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from random import Random

from PIL.Image import Image

from benchmarks.shapes.facts import Facts
from benchmarks.shapes.levels import agreement_of
from benchmarks.shapes.oracle import OracleJudge
from benchmarks.shapes.relations import OPPOSITE
from benchmarks.shapes.scoring import shown
from benchmarks.shapes.vocabulary import COLORS, SHAPES, TEXTURES
from harness.settings import number, share, whole_number
from harness.types import Chain, Detection, Prompt, Question

BEST = 10  # the highest grade
PICTURE = ("picture_attributes", "picture_relations", "picture_spread", "picture_leniency")  # settings
CHAIN = ("chain_share", "chain_spread", "drawn_reversed", "written_reversed")
PREFERENCE = ("preference_first", "preference_flip", "preference_invalid")

_OTHER = {"A": "B", "B": "A"}
_VALUES = {"shape": SHAPES, "color": tuple(COLORS), "texture": TEXTURES}


class SimulatedJudge(OracleJudge):
    """The exact judge with errors. Without any it answers as the exact one, byte for byte.

    Args:
        seed: one simulated model per seed.
        picture_attributes: probability that an object of an image is misread in one attribute.
        picture_relations: probability that the directions and sizes of an image are read reversed.
        picture_spread: standard deviation of the noise of an image's grade, in grades.
        picture_leniency: grades that every image gets in addition.
        chain_share: probability that a question about a chain, its words or its layout, is misgraded.
        chain_spread: by up to how many grades.
        drawn_reversed: probability that the directions and sizes of a drawn layout are read reversed.
        written_reversed: the same for a layout that is written as coordinates.
        preference_first: probability that of two chains the first is selected, whatever they say.
        preference_flip: probability that otherwise the worse of two chains is selected.
        preference_invalid: probability that no chain is selected, also when the judge is asked again.

    Raises:
        ValueError: a probability is not from 0 to 1, or another setting is not allowed.
    """

    def __init__(
        self,
        *,
        seed: int,
        picture_attributes: float,
        picture_relations: float,
        picture_spread: float,
        picture_leniency: float,
        chain_share: float,
        chain_spread: float,
        drawn_reversed: float,
        written_reversed: float,
        preference_first: float,
        preference_flip: float,
        preference_invalid: float,
    ) -> None:
        super().__init__()
        where = "benchmarks.simulated.judge."
        self.seed = whole_number(f"{where}seed", seed, least=0)
        self.picture_attributes = share(f"{where}picture_attributes", picture_attributes)
        self.picture_relations = share(f"{where}picture_relations", picture_relations)
        self.picture_spread = number(f"{where}picture_spread", picture_spread, least=0)
        self.picture_leniency = number(f"{where}picture_leniency", picture_leniency)
        self.chain_share = share(f"{where}chain_share", chain_share)
        self.chain_spread = number(f"{where}chain_spread", chain_spread, least=0)
        self.drawn_reversed = share(f"{where}drawn_reversed", drawn_reversed)
        self.written_reversed = share(f"{where}written_reversed", written_reversed)
        self.preference_first = share(f"{where}preference_first", preference_first)
        self.preference_flip = share(f"{where}preference_flip", preference_flip)
        self.preference_invalid = share(f"{where}preference_invalid", preference_invalid)

    @property
    def label(self) -> str:
        """What a report calls this judge: its measured agreement with the exact grades."""
        parts = []
        for part, names in (("picture", PICTURE), ("chain", CHAIN)):
            errors = {name: getattr(self, name) for name in names}
            parts.append(f"{part} {agreement_of(part, errors) if any(errors.values()) else 'exact'}")
        return f"simulated judge ({', '.join(parts)})"

    def grade_image(
        self, prompt: Prompt, facts: Facts, image: Image, seen: Sequence[Detection]
    ) -> tuple[Sequence[Detection], int, str]:
        """What the judge takes the image for, its grade from 0 to 10 and the reason."""
        rng = stream("judge", self.seed, "prompt_image", prompt.text, pixels_of(image))
        # Every draw is made whatever the settings, so that settings share their luck.
        is_reversed, noise = rng.random() < self.picture_relations, rng.gauss(0, 1)
        read = [_misread(rng, thing, self.picture_attributes) for thing in seen]
        asked = _reversed(facts) if is_reversed else facts
        _, grade, reasoning = super().grade_image(prompt, asked, image, read)
        moved = _cut(grade + self.picture_leniency + noise * self.picture_spread)
        return read, moved, _in_words_of(facts, asked, reasoning)

    def grade_chain(self, question: Question, prompt: Prompt, facts: Facts, chain: Chain) -> tuple[int, str]:
        """The grade from 0 to 10 of the chain's words or layout, and the reason."""
        written = question.kind == "spatial" and not question.images
        rng = stream("judge", self.seed, question.kind, written, prompt.text, chain.text)
        misgraded, move = rng.random() < self.chain_share, rng.uniform(-1, 1) * self.chain_spread
        is_reversed = rng.random() < (self.written_reversed if written else self.drawn_reversed)
        asked = _reversed(facts) if is_reversed and question.kind == "spatial" else facts
        grade, reasoning = super().grade_chain(question, prompt, asked, chain)
        return _cut(grade + move) if misgraded else grade, _in_words_of(facts, asked, reasoning)

    def select(self, prompt: Prompt, facts: Facts, first: Chain, second: Chain) -> tuple[str | None, str]:
        """The chain that the judge takes for the better one, and the reason."""
        rng = stream("judge", self.seed, "preference", prompt.id, prompt.number, first.text, second.text)
        says_first, is_flipped = rng.random() < self.preference_first, rng.random() < self.preference_flip
        is_invalid = rng.random() < self.preference_invalid
        selected, reasoning = super().select(prompt, facts, first, second)
        if is_invalid:
            return None, reasoning
        if says_first:
            return "A", reasoning
        return _OTHER.get(selected or "", selected) if is_flipped else selected, reasoning


def stream(*parts: object) -> Random:
    """A random stream that depends on every part alone, the same on every machine."""
    return Random("\x1f".join(map(str, ("simulated", *parts))))


def pixels_of(image: Image) -> str:
    """A digest of an image: its mode, its size and its pixels."""
    return sha256(f"{image.mode} {image.size} ".encode() + image.tobytes()).hexdigest()


def _misread(rng: Random, thing: Detection, rate: float) -> Detection:
    """With probability `rate` the same object with another value of one attribute."""
    look, is_misread, attribute = shown(thing.label), rng.random() < rate, rng.choice(tuple(_VALUES))
    assert look is not None
    other = rng.choice([value for value in _VALUES[attribute] if value != getattr(look, attribute)])
    return replace(thing, label=replace(look, **{attribute: other}).name) if is_misread else thing


def _reversed(facts: Facts) -> Facts:
    """The facts that hold in what is seen reversed: left for right, above for below, bigger for smaller."""
    return replace(facts, relation=OPPOSITE.get(facts.relation or "", facts.relation))


def _in_words_of(facts: Facts, asked: Facts, reasoning: str) -> str:
    """The reason with the relation of the prompt, also where the judge has read it reversed."""
    return reasoning.replace(f"'{asked.relation}'", f"'{facts.relation}'")


def _cut(grade: float) -> int:
    """The nearest grade from 0 to 10."""
    return min(max(math.floor(grade + 0.5), 0), BEST)
