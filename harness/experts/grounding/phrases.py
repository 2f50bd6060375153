"""The base of open-vocabulary detectors: names to find in each image, and detections from scored boxes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from PIL.Image import Image

from harness.experts.pretrained import Pretrained, read_serving
from harness.settings import number
from harness.types import CANVAS, Box, Detection

if TYPE_CHECKING:
    import torch

WHERE = "phrase_grounder"


class PhraseGrounder(ABC):
    """A detector that finds objects by name: settings and answers, without the model.

    Args:
        model: hub id or folder of the model in transformers' layout.
        threshold: boxes with this score or less are dropped.
        overlap: two boxes of one name with a larger IoU are one object.
        dtype: float32, bfloat16 or float16.
        serving: settings that change no answer: `batch_size` in images; `device`, a torch device or `auto`.
        where: the configuration node of these settings, for messages.
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
        """A message if the model is neither a local folder nor in the hub's cache."""
        return self._pretrained.missing()

    def load(self) -> None:
        """Loads weights and processor now; without this call the first image does.

        Raises:
            ValueError: they are missing, or belong to another model. The message says what to do.
        """
        _ = self._processor  # it is checked against the model, which loads first

    def locate(self, images: Sequence[Image], names: Sequence[str]) -> list[list[Box] | None]:
        """Boxes on 0..1000 by falling score, for each pair of image and name; [] if the object is absent."""
        boxes: list[list[Box] | None] = []
        for detections in self.find(images, names):
            boxes.append([detection.box for detection in detections])
        return boxes

    @abstractmethod
    def find(self, images: Sequence[Image], names: Sequence[str]) -> list[list[Detection]]:
        """Detections by falling score, for each pair of image and name, labeled with the name."""


@dataclass(frozen=True)
class Lookup:
    """An image and the distinct names to find in it, in the order of their first request."""

    image: Image
    names: tuple[str, ...]


def group_by_image(images: Sequence[Image], names: Sequence[str]) -> list[Lookup]:
    """One lookup per distinct image.

    Raises:
        ValueError: the numbers of images and names differ.
    """
    if len(images) != len(names):
        raise ValueError(f"{len(images)} images and {len(names)} names: give one name for each image")
    names_by_image: dict[int, dict[str, None]] = {}
    for image, name in zip(images, names, strict=True):
        names_by_image.setdefault(id(image), {})[name] = None
    image_by_id = {id(image): image for image in images}
    return [Lookup(image_by_id[key], tuple(distinct)) for key, distinct in names_by_image.items()]


def to_corners(boxes_BQ4: torch.Tensor) -> torch.Tensor:
    """Boxes given as center and size, as x1, y1, x2, y2."""
    import torch

    center, half = boxes_BQ4[..., :2], boxes_BQ4[..., 2:] / 2
    return torch.cat([center - half, center + half], -1)


def select_detections(
    name: str,
    scores: Sequence[float],
    corners: Sequence[Sequence[float]],
    *,
    threshold: float,
    overlap: float,
) -> list[Detection]:
    """The objects of one name, by falling score.

    Args:
        name: their label.
        scores: of each box, in [0, 1].
        corners: x1, y1, x2, y2 of each box as fractions of the image; clipped to it.
        threshold: boxes with this score or less are dropped.
        overlap: a box whose IoU with a better one is larger is the same object again, and dropped.
    """
    candidates = [pair for pair in zip(scores, corners, strict=True) if pair[0] > threshold]
    candidates.sort(key=lambda pair: -pair[0])
    kept: list[Detection] = []
    for score, fractions in candidates:
        box = Box(*(round(min(max(value, 0.0), 1.0) * CANVAS) for value in fractions))
        if box.area and all(box.iou(other.box) <= overlap for other in kept):
            kept.append(Detection(label=name, box=box, score=score))
    return kept
