"""Stand-ins for CLIP and for an open-vocabulary detector in the shapes world, with the errors of both."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from random import Random

from PIL.Image import Image

from benchmarks.shapes.detector import ShapesDetector
from benchmarks.shapes.grounding import detect_once
from benchmarks.shapes.levels import agreement_of
from benchmarks.shapes.scoring import shown
from benchmarks.shapes.simulated import pixels_of, stream
from benchmarks.shapes.vocabulary import NEUTRAL_NOUN, Attributes, read_attributes, words
from harness.settings import number, whole_number
from harness.types import CANVAS, Box, Detection


class SimulatedSimilarity:
    """A bag of words, as CLIP is found to be: blind to relations, to counts, and to which object has which
    attribute.

    Args:
        seed: one simulated model per seed.
        spread: standard deviation of the noise of a similarity, which is from 0 to 1 without noise.

    Raises:
        ValueError: a setting is not allowed.
    """

    def __init__(self, *, seed: int, spread: float) -> None:
        self.seed = whole_number("benchmarks.simulated.similarity.seed", seed, least=0)
        self.spread = number("benchmarks.simulated.similarity.spread", spread, least=0)
        self._detector = ShapesDetector()

    @property
    def label(self) -> str:
        """What a report calls it: its calibrated agreement with the exact grades."""
        return f"simulated CLIP ({agreement_of('clip', {'spread': self.spread})})"

    def similarity(self, images: Sequence[Image], texts: Sequence[str]) -> list[float | None]:
        """The share of a text's colors, textures and shapes that the image shows somewhere, with noise;
        None for a text that has none of them.
        """
        seen = detect_once(self._detector, images)
        return [self.fit(*parts) for parts in zip(images, texts, seen, strict=True)]

    def fit(self, image: Image, text: str, seen: Sequence[Detection]) -> float | None:
        """The similarity of one image, in which these objects are seen."""
        said = _united(read_attributes(word) for word in words(text))
        if not said:
            return None
        visible = _united(shown(thing.label) for thing in seen)
        noise = stream("similarity", self.seed, text, pixels_of(image)).gauss(0, 1) * self.spread
        return round(len(said & visible) / len(said) + noise, 6)


class SimulatedGrounder:
    """Finds objects by their noun, whatever the other words say: `red circle` finds every circle.

    The adjective of a `round tile` says the shape, so it stands for the noun; a `red tile` is any object.

    Args:
        seed: one simulated model per seed.
        jitter: standard deviation of the shift of each edge of a box, as a share of the box's side.

    Raises:
        ValueError: a setting is not allowed.
    """

    label = "simulated grounder"

    def __init__(self, *, seed: int, jitter: float) -> None:
        self.seed = whole_number("benchmarks.simulated.grounder.seed", seed, least=0)
        self.jitter = number("benchmarks.simulated.grounder.jitter", jitter, least=0)
        self._detector = ShapesDetector()

    def locate(self, images: Sequence[Image], names: Sequence[str]) -> list[list[Box] | None]:
        """Boxes by falling confidence; [] if no object has the name's noun, or the name has none."""
        seen = detect_once(self._detector, images)
        return [self._boxes(*parts) for parts in zip(images, names, seen, strict=True)]

    def _boxes(self, image: Image, name: str, seen: Sequence[Detection]) -> list[Box]:
        noun = _noun(name)
        rng = stream("grounder", self.seed, name, pixels_of(image))
        boxes = []
        for thing in seen:
            look = shown(thing.label)
            if noun is not None and look is not None and noun.fits(look):
                boxes.append(_shaken(rng, thing.box, self.jitter))
        return boxes


def _united(looks: Iterable[Attributes | None]) -> set[tuple[str, str]]:
    """The (attribute, value) pairs of all of them together."""
    pairs: set[tuple[str, str]] = set()
    for look in looks:
        pairs.update(() if look is None else look.stated())
    return pairs


def _noun(name: str) -> Attributes | None:
    """What the last word that says a shape says; nothing in particular for a tile; None for another name."""
    said = words(name)
    for word in reversed(said):
        look = read_attributes(word)
        if look is not None and look.shape is not None:
            return look
    return Attributes() if NEUTRAL_NOUN in said else None


def _shaken(rng: Random, box: Box, jitter: float) -> Box:
    """The box with each of its edges moved, within the canvas."""
    width, height = (box.x2 - box.x1) * jitter, (box.y2 - box.y1) * jitter
    x1, x2 = sorted(_within(edge + rng.gauss(0, 1) * width) for edge in (box.x1, box.x2))
    y1, y2 = sorted(_within(edge + rng.gauss(0, 1) * height) for edge in (box.y1, box.y2))
    return Box(x1, y1, x2, y2)


def _within(edge: float) -> int:
    return min(max(round(edge), 0), CANVAS)
