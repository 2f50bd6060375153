"""Objects of an image found by name, exactly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from benchmarks.shapes.scoring import shown
from benchmarks.shapes.vocabulary import read_attributes
from harness.types import Box, Detection

if TYPE_CHECKING:
    from PIL.Image import Image

    from benchmarks.shapes.detector import ShapesDetector


def ground(detector: ShapesDetector, images: Sequence[Image], names: Sequence[str]) -> list[list[Box] | None]:
    """Return the boxes of each pair by falling confidence; [] if no object has all that the name says, or
    the name says nothing known.
    """
    return [_boxes(name, seen) for name, seen in zip(names, detect_once(detector, images), strict=True)]


def detect_once(detector: ShapesDetector, images: Sequence[Image]) -> list[list[Detection]]:
    """Return the detections of each image. Equal images are looked at once."""
    distinct = {id(image): image for image in images}
    seen = dict(zip(distinct, detector.detect(list(distinct.values())), strict=True))
    return [seen[id(image)] for image in images]


def _boxes(name: str, seen: Sequence[Detection]) -> list[Box]:
    said = read_attributes(name)
    if said is None:
        return []
    boxes = []
    for thing in seen:
        look = shown(thing.label)
        if look is not None and said.fits(look):
            boxes.append(thing.box)
    return boxes
