"""UniDet (arXiv 2102.13086) as T2I-CompBench runs it (`UniDet_eval`, 1b70949): 722 classes, frame of
479 or 480 pixels.

Shape letters: C channels, H height and W width of a frame in pixels, N boxes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import ImageOps
from PIL.Image import Image, Resampling

from benchmarks.t2i_compbench.models.frame import frame_size
from harness.experts.pretrained import Pretrained, blocks, by_halves, freeze, read_serving
from harness.protocols import Needing, ObjectDetector
from harness.settings import choice
from harness.types import Detections, Sample

if TYPE_CHECKING:
    import torch

COLORS = ("official", "corrected")


@dataclass(frozen=True, kw_only=True)
class Published:
    """The weights of a detector: `tensors_mb` is what they hold; the file's own size and check sum are
    nowhere stated.
    """

    name: str
    file: str
    source: str
    tensors_mb: int


PUBLISHED = {
    "rs200": Published(
        name="UniDet RS200",
        file="Unified_learned_OCIM_RS200_6x+2x.pth",
        source="huggingface.co/shikunl/prismer, folder expert_weights",
        tensors_mb=483,
    ),
    "r50": Published(
        name="UniDet R50",
        file="Unified_learned_OCIM_R50_6x+2x.pth",
        source="Google Drive, id 1C4sgkirmgMumKXXiLOPmCKNTZAc3oVbq",
        tensors_mb=288,
    ),
}


class UniDet(ObjectDetector):
    """An `ObjectDetector` in float32. Boxes are in the frame (`frame.frame_size`), scores above 0.1.

    Args:
        checkpoint: the published `.pth`; a file of another name is named in tables. None: not given,
            which `missing` says and `load` and `detect` refuse.
        variant: rs200 or r50.
        colors: official feeds both blue first, as the programs do, although RS200 was trained on red
            first; corrected feeds each as it was trained.
        labels: gives the name of every class, in the order of the class ids; called when the weights are
            loaded.
        serving: what changes no answer: `batch_size`, images at once (fewer where a GPU's memory asks for
            it), and `device`, `auto` or a torch device.
        where: the configuration node that these settings stand in, for messages.

    Raises:
        ValueError: a setting that cannot be, or a path where nothing is.
    """

    def __init__(
        self,
        *,
        checkpoint: str | None,
        variant: str,
        colors: str,
        labels: Callable[[], Sequence[str]],
        serving: Mapping[str, Any],
        where: str,
    ) -> None:
        choice(f"{where}.variant", variant, list(PUBLISHED))
        choice(f"{where}.colors", colors, COLORS, hint=", as the modes of scoring")
        device, self._batch = read_serving(where, serving)
        self._where, self._variant, self._labels, self._published = where, variant, labels, PUBLISHED[variant]
        file = checkpoint or self._published.file
        self._place = Pretrained(
            where=where, model=file, device=device, dtype="float32", setting="checkpoint"
        )
        self._file = Path(self._place.model) if checkpoint else None
        if self._file and not self._file.is_file():
            raise ValueError(f"{where}.checkpoint={checkpoint}: there is no such file. {self._advice()}")
        self._red_first = variant == "rs200" and colors == "corrected"
        self.given = self._file is not None
        self.external: tuple[str, ...] = (str(self._file),) if self._file else ()
        odd = f" ({self._file.name})" if self._file and self._file.name != self._published.file else ""
        self.name = f"{self._published.name}{odd}"

    def missing(self) -> list[str]:
        """The checkpoint, where none is given, and what the labels lack."""
        absent: list[str] = self._labels.missing() if isinstance(self._labels, Needing) else []
        return [*([] if self.given else [self._advice()]), *absent]

    def load(self) -> None:
        """Reads the weights and the labels, which `detect` does otherwise when it is first asked.

        Raises:
            ValueError: they are not there, damaged, or another detector's; says what to do.
        """
        _ = self._model

    def detect(self, samples: Sequence[Sample], *, mirrored: bool = False) -> list[Detections | str]:
        """What is in every image, by falling score; a text where an image is too narrow to be looked at.

        Images of one frame go together, so that none is padded and an answer does not depend on its batch.

        Raises:
            ValueError: as `load`.
        """
        found: dict[int, Detections | str] = {}
        framed: dict[tuple[int, int], list[int]] = {}
        for place, sample in enumerate(samples):
            try:
                framed.setdefault(frame_size(*sample.image.size), []).append(place)
            except ValueError as error:
                found[place] = str(error)
        for frame, places in framed.items():
            for block in blocks(places, self._batch):
                pixels = [self._pixels_CHW(samples[place].image, frame, mirrored) for place in block]
                found |= zip(block, by_halves(partial(self._look, frame), pixels), strict=True)
        return [found[place] for place in range(len(samples))]

    def _pixels_CHW(self, image: Image, frame: tuple[int, int], mirrored: bool) -> torch.Tensor:
        """In 0..255, in the frame; blue, green, red unless `_red_first`."""
        import numpy as np
        import torch

        seen = (
            (ImageOps.mirror(image) if mirrored else image).convert("RGB").resize(frame, Resampling.BILINEAR)
        )
        red_first_CHW = torch.from_numpy(np.array(seen)).permute(2, 0, 1).float()
        return red_first_CHW if self._red_first else red_first_CHW.flip(0)

    def _look(self, frame: tuple[int, int], pixels: Sequence[torch.Tensor]) -> list[Detections | str]:
        import torch

        model, names, device = *self._model, self._place.device()
        try:
            with torch.inference_mode():
                found = model([one_CHW.to(device) for one_CHW in pixels])
        except FloatingPointError as error:
            if len(pixels) > 1:
                return list(chain.from_iterable(self._look(frame, [alone_CHW]) for alone_CHW in pixels))
            return [f"{self.name} cannot look at this image: {error}"]
        detections: list[Detections | str] = []
        for boxes_N4, scores_N, classes_N in found:
            labels = tuple(names[number] for number in classes_N.tolist())
            boxes = tuple((x1, y1, x2, y2) for x1, y1, x2, y2 in boxes_N4.tolist())
            detections.append(
                Detections(frame=frame, labels=labels, boxes=boxes, scores=tuple(scores_N.tolist()))
            )
        return detections

    @cached_property
    def _model(self) -> tuple[Any, tuple[str, ...]]:
        """The model, frozen, on its device, and the names of its classes."""
        from benchmarks.t2i_compbench.models.unidet.checkpoint import load

        if self._file is None:
            raise ValueError(self._advice())
        names = tuple(self._labels())
        try:
            model = load(self._file)
            self._check(model, len(names))
        except ValueError as error:
            raise ValueError(f"{self._where}.checkpoint={self._file}: {error}. {self._advice()}") from error
        return freeze(model, self._place.device()), names

    def _check(self, model: Any, names: int) -> None:
        import torch

        if model.sizes.variant != self._variant:
            raise ValueError(f"these are the weights of {PUBLISHED[model.sizes.variant].name}")
        if model.sizes.classes != names:
            raise ValueError(
                f"these weights know {model.sizes.classes} classes, and there are {names} labels"
            )
        if odd := [name for name, value in model.state_dict().items() if not torch.isfinite(value).all()]:
            raise ValueError(f"the weights are damaged: {odd[0]} holds values that are not finite")

    def _advice(self) -> str:
        own = self._published
        return (
            f"{own.name} needs its weights {own.file}: take them from {own.source} (tensors of "
            f"{own.tensors_mb} MB; the file's size and "
            f"check sum are not known) and set {self._where}.checkpoint=FILE or "
            f"UNIDET_{self._variant.upper()}_CHECKPOINT"
        )
