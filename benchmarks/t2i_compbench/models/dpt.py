"""DPT hybrid (arXiv 2103.13413) as T2I-CompBench uses it (`UniDet_eval`, 1b70949): inverse depth, 0
far to 255 near.

Shape letters: B images, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageOps

from harness.experts.pixels import unit_3HW
from harness.experts.pretrained import Pretrained, blocks, read_serving
from harness.protocols import DepthEstimator
from harness.types import Sample

if TYPE_CHECKING:
    import torch

SIDE = 480  # pixels: every image becomes such a square; the weights were trained at 384
LAYER_NORM_EPS = 1e-6  # of the original; copies in transformers' layout say 1e-12
PUBLISHED = "dpt-hybrid-midas"  # Intel's copy of dpt_hybrid-midas-501f0c75.pt in transformers' layout


class DptHybrid(DepthEstimator):
    """A `DepthEstimator` in float32.

    Args:
        model: hub id or folder of a DPT in transformers' layout; another than `dpt-hybrid-midas` is named
            in tables.
        serving: what changes no answer: `batch_size`, images at once, and `device`, `auto` or a torch device.
        where: the configuration node that these settings stand in, for messages.

    Raises:
        ValueError: a setting that cannot be.
    """

    def __init__(self, *, model: str, serving: Mapping[str, Any], where: str) -> None:
        device, self._batch = read_serving(where, serving)
        self._pretrained = Pretrained(where=where, model=model, device=device, dtype="float32")
        self._where = where
        self.name = (
            "DPT hybrid" if (own := Path(self._pretrained.model).name) == PUBLISHED else f"DPT ({own})"
        )

    def missing(self) -> list[str]:
        """That the model is neither a folder here nor in the hub's cache."""
        return self._pretrained.missing()

    def load(self) -> None:
        """Reads the weights, which `depth` does otherwise when it is first asked.

        Raises:
            ValueError: they are not there, or another model's; says what to do.
        """
        _ = self._model

    def depth(self, samples: Sequence[Sample], *, mirrored: bool = False) -> list[Image.Image | str]:
        """A grey image (mode L) of the size of each image; a text where the model sees the same depth
        everywhere.

        Raises:
            ValueError: as `load`; or the weights give no finite depth.
        """
        images = [ImageOps.mirror(sample.image) if mirrored else sample.image for sample in samples]
        return list(chain.from_iterable(map(self._look, blocks(images, self._batch))))

    def _look(self, images: Sequence[Image.Image]) -> list[Image.Image | str]:
        import torch

        pixels_B3HW = torch.stack([_pixels_3HW(image) for image in images]).to(self._pretrained.device())
        with torch.inference_mode():
            depth_BHW = self._model(pixels_B3HW).predicted_depth
            if not torch.isfinite(depth_BHW).all():
                raise ValueError(f"{self._where}: the weights give no finite depth: they are damaged")
            return [_picture(depth_HW, image.size) for depth_HW, image in zip(depth_BHW, images, strict=True)]

    @cached_property
    def _model(self) -> Any:
        from transformers import DPTForDepthEstimation

        model = self._pretrained.load(DPTForDepthEstimation, amend=_as_official)
        # the hybrid refuses other sizes than this, though it resizes its positions to any
        model.dpt.embeddings.image_size = (SIDE, SIDE)
        return model


def _as_official(config: Any) -> None:
    config.layer_norm_eps = LAYER_NORM_EPS


def _pixels_3HW(image: Image.Image) -> torch.Tensor:
    """Squeezed to 480 x 480, in -1..1."""
    return unit_3HW(image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR)) * 2 - 1


def _picture(depth_HW: torch.Tensor, size: tuple[int, int]) -> Image.Image | str:
    """Stretched to 0..255, of this width and height; fractions of a level are cut off, as the official
    program does.
    """
    import torch

    low, high = depth_HW.aminmax()
    if low == high:
        return (
            "the depth model sees the same depth everywhere in the image, so that nothing is nearer "
            "than anything else"
        )
    unit_11HW = ((depth_HW - low) / (high - low))[None, None]
    resized_HW = torch.nn.functional.interpolate(unit_11HW, size[::-1], mode="bilinear", align_corners=True)[
        0, 0
    ]
    return Image.fromarray((resized_HW * 255).clamp(0, 255).byte().cpu().numpy())
