"""Who finds subject and object of a prompt's relation in images, for the measures of plans."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from benchmarks.t2i_compbench.rules.spatial import best_pair
from harness.plugin_values import one_each
from harness.relations import Found, phrases_of, relation_of
from harness.types import CANVAS, Detections, Metric, Region, Sample

if TYPE_CHECKING:
    from PIL.Image import Image

    from harness.protocols import ObjectDetector

LOCATORS = ("owlv2", "rs200")


class PairDetector(Protocol):
    """Finds two phrases that it is asked for together. `labels` tell tables how."""

    @property
    def labels(self) -> tuple[str, ...]: ...

    def find_pairs(self, images: Sequence[Image], pairs: Sequence[tuple[str, str]]) -> list[Found]:
        """The regions of the two phrases in each image."""
        ...


class Locator(Protocol):
    """`metric` is what tables call it and say of it."""

    metric: Metric

    def __call__(self, samples: Sequence[Sample]) -> list[Found | str]:
        """Subject and object in each image, or why it could not be looked at. Each prompt says a relation."""
        ...


class PhraseLocator:
    """Asks for the two phrases as the prompt writes them, with their articles (arXiv 2608.21713)."""

    def __init__(self, detector: PairDetector) -> None:
        self._detector = detector
        self.metric = Metric(name="OWLv2", labels=detector.labels)

    def __call__(self, samples: Sequence[Sample]) -> list[Found | str]:
        images, pairs = [], []
        for sample in samples:
            pair = phrases_of(sample.prompt.text)
            assert pair is not None, "only prompts with a relation are asked"
            images.append(sample.image)
            pairs.append(pair)
        found = self._detector.find_pairs(images, pairs)
        return one_each(found, len(samples), _who(self._detector), "pairs of regions", "image")


class ClassLocator:
    """Takes the surest two boxes among those that a detector of many classes gives for the two nouns.

    The alias table of corrected mode says which classes a noun may have, whatever the mode of the scores.
    """

    def __init__(self, detector: ObjectDetector, *, absent: str | None) -> None:
        self._detector, self._absent = detector, absent
        self.metric = Metric(
            name="UniDet", labels=(f"detector={Path(detector.name).name}", "classes=aliases")
        )

    def __call__(self, samples: Sequence[Sample]) -> list[Found | str]:
        if self._absent:
            return [self._absent for _ in samples]
        seen = one_each(
            self._detector.detect(samples), len(samples), _who(self._detector), "detections", "image"
        )
        return [
            one if isinstance(one, str) else _surest(sample, one)
            for sample, one in zip(samples, seen, strict=True)
        ]


def _surest(sample: Sample, seen: Detections) -> Found:
    relation = relation_of(sample.prompt.text)
    assert relation is not None, "only prompts with a relation are asked"
    nouns = relation.subject, relation.object
    subject, other = best_pair(seen, nouns, None, lambda i, j: 0.0).found
    return _region(seen, subject), _region(seen, other)


def _region(seen: Detections, place: int | None) -> Region | None:
    if place is None:
        return None
    (width, height), (x1, y1, x2, y2) = seen.frame, seen.boxes[place]
    across, down = CANVAS / width, CANVAS / height
    return Region(x1 * across, y1 * down, x2 * across, y2 * down)


def _who(detector: PairDetector | ObjectDetector) -> str:
    return f"detector {type(detector).__name__}"
