"""What the open-vocabulary detectors share: the names asked of each picture, and scored boxes made into answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL.Image import Image

from harness.experts.pretrained import Pretrained, read_serving
from harness.settings import number
from harness.types import CANVAS, Box, Detection

WHERE = "phrase_grounder"


class PhraseGrounder(ABC):
    """A detector that finds what it is asked for by name: settings and answers, without the model.

    Args:
        model: hub id or folder of the model in transformers' layout.
        threshold: boxes that do not score more are left out.
        overlap: IoU above which two boxes of one name are one thing.
        dtype: float32, bfloat16 or float16.
        serving: what changes no answer: `batch_size`, pictures at once, and `device`, `auto` or a torch device.
        where: the configuration node that these settings stand in, for messages.
    """

    _processor: Any

    def __init__(
        self,
        *,
        model: str,
        threshold: float,
        overlap: float,
        dtype: str,
        serving: Mapping[str, Any],
        where: str = WHERE,
    ) -> None:
        device, self._batch = read_serving(where, serving)
        self.name = model
        self._pretrained = Pretrained(where=where, model=model, device=device, dtype=dtype)
        self._limits = {
            name: number(f"{where}.{name}", value, least=0, most=1)
            for name, value in (("threshold", threshold), ("overlap", overlap))
        }

    def missing(self) -> list[str]:
        """That the model is neither a folder here nor in the hub's cache."""
        return self._pretrained.missing()

    def load(self) -> None:
        """Reads the weights and the processor, which is done otherwise when the first picture is looked at.

        Raises:
            ValueError: they are not there, or another model's; says what to do.
        """
        _ = self._processor  # checked against the model, which is read first

    def locate(self, images: Sequence[Image], names: Sequence[str]) -> list[list[Box] | None]:
        """Boxes on 0..1000 by falling confidence; [] if absent."""
        return [[one.box for one in own] for own in self.find(images, names)]

    @abstractmethod
    def find(self, images: Sequence[Image], names: Sequence[str]) -> list[list[Detection]]:
        """The same with their scores, labelled by the name asked for."""


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


def best(
    name: str,
    scores: Sequence[float],
    corners: Sequence[Sequence[float]],
    *,
    threshold: float,
    overlap: float,
) -> list[Detection]:
    """The things of one name by falling score.

    Args:
        name: their label.
        scores: of each box, in [0, 1].
        corners: x1, y1, x2, y2 of each box as fractions of the picture; clipped to it.
        threshold: boxes that do not score more are left out.
        overlap: a box whose IoU with a better one is larger is the same thing seen again, and left out.
    """
    ranked = sorted(
        ((score, corner) for score, corner in zip(scores, corners, strict=True) if score > threshold),
        key=lambda pair: -pair[0],
    )
    kept: list[Detection] = []
    for score, corner in ranked:
        box = Box(*(round(min(max(value, 0.0), 1.0) * CANVAS) for value in corner))
        if box.area and all(box.iou(other.box) <= overlap for other in kept):
            kept.append(Detection(label=name, box=box, score=score))
    return kept
