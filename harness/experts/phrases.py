"""What the open-vocabulary detectors share: the names asked of each picture, and scored boxes made into answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL.Image import Image

from harness.types import CANVAS, Box, Detection


@dataclass(frozen=True)
class Request:
    """A picture and the distinct names to find in it, in the order first asked."""

    image: Image
    names: tuple[str, ...]


def requests_of(images: Sequence[Image], names: Sequence[str]) -> list[Request]:
    """One request per distinct picture.

    Raises:
        ValueError: not one name for each image.
    """
    if len(images) != len(names):
        raise ValueError(f"{len(images)} images and {len(names)} names: give one name for each image")
    asked: dict[int, dict[str, None]] = {}
    for image, name in zip(images, names, strict=True):
        asked.setdefault(id(image), {})[name] = None
    distinct = {id(image): image for image in images}
    return [Request(distinct[key], tuple(wanted)) for key, wanted in asked.items()]


def best(name: str, scores: Sequence[float], corners: Sequence[Sequence[float]], *, threshold: float, overlap: float) -> list[Detection]:
    """The things of one name by falling score.

    Args:
        name: their label.
        scores: of each box, in [0, 1].
        corners: x1, y1, x2, y2 of each box as fractions of the picture; clipped to it.
        threshold: boxes that do not score more are left out.
        overlap: a box whose IoU with a better one is larger is the same thing seen again, and left out.
    """
    ranked = sorted(
        ((score, corner) for score, corner in zip(scores, corners, strict=True) if score > threshold), key=lambda pair: -pair[0]
    )
    kept: list[Detection] = []
    for score, corner in ranked:
        box = Box(*(round(min(max(value, 0.0), 1.0) * CANVAS) for value in corner))
        if box.area and all(box.iou(other.box) <= overlap for other in kept):
            kept.append(Detection(label=name, box=box, score=score))
    return kept
