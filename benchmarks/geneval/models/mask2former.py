"""Mask2Former (arXiv 2112.01527) as GenEval uses it: transformers' model with mmdet 2's preprocessing
and instance rule.

Published GenEval scores rest on mmdet's weights (`mask2former_swin-s-p4-w7-224_lsj_8x2_50e_coco`). The
hub's `facebook/mask2former-swin-small-coco-instance` has the same design and other weights, so it finds
other objects.

Shape suffixes: B images, Q queries, K classes, H W rows and columns, h w those of the model's own masks,
a quarter of its input.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from PIL import Image, ImageOps

from harness.experts.pretrained import Pretrained, blocks, by_halves, read_serving
from harness.types import Detections

if TYPE_CHECKING:
    import numpy as np
    import torch

HUB = "facebook/mask2former-swin-small-coco-instance"
SIZE = "about 0.28 GB"  # 69 million weights in float32
LONG, SHORT = 1333, 800  # pixels: the largest sides of a resized image
MULTIPLE = 32  # pixels: the padded sides are multiples of it
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # of red, green and blue in 0..255
BEST = 100  # pairs of query and class that can become objects


@dataclass(frozen=True, kw_only=True)
class Instances(Detections):
    """Detections with masks: booleans [y2 - y1, x2 - x1] within the box of each object."""

    masks: tuple[np.ndarray, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.masks) != len(self.boxes):
            raise ValueError(f"{len(self.masks)} masks and {len(self.boxes)} boxes: each box has a mask")


class Mask2Former:
    """Detects objects with boxes and masks, in float32.

    Args:
        model: hub id or folder of a Mask2Former for instances in transformers' layout.
        serving: what changes no answer: `batch_size`, images of one size at once, and `device`, `auto`
            or a torch device.
        where: the configuration node that these settings stand in, for messages.

    Raises:
        ValueError: a setting that cannot be.
    """

    def __init__(self, *, model: str, serving: Mapping[str, Any], where: str) -> None:
        device, self._batch = read_serving(where, serving)
        self._pretrained = Pretrained(where=where, model=model, device=device, dtype="float32")
        self._setting = f"{where}.model={model}"
        called = Path(model).name
        self.name = f"Mask2Former ({'HF' if called == Path(HUB).name else called})"

    def missing(self) -> list[str]:
        """That the weights are neither a folder here nor in the hub's cache."""
        return [
            f"{told}. It is {SIZE} from the hub, and other weights than mmdet's"
            for told in self._pretrained.missing()
        ]

    def load(self) -> None:
        """Reads the weights, which `detect` does otherwise when it is first asked.

        Raises:
            ValueError: they are not there, or another model's; says what to do.
        """
        _ = self._model

    def detect(self, images: Sequence[Image.Image], names: Sequence[str], *, above: float) -> list[Instances]:
        """What each image holds, by falling score; pixels are those of the image turned upright as
        its EXIF says.

        Args:
            images: of any size and mode.
            names: what the classes are called, in the model's order.
            above: objects that do not score more are left out. Masks are large, and GenEval looks at none
                below its threshold.

        Raises:
            ValueError: not as many names as the model has classes; no weights; or the weights give no
                numbers.
        """
        if len(names) != (known := self._model.config.num_labels):
            raise ValueError(
                f"{self._setting} tells {known} classes apart, and {len(names)} are named: give "
                f"weights for COCO's 80 things, such as {HUB}"
            )
        pictures = [ImageOps.exif_transpose(image).convert("RGB") for image in images]
        found: list[Instances] = []
        for _, same in groupby(pictures, key=lambda picture: padded_size(*fitted_size(*picture.size))):
            for block in blocks(list(same), self._batch):
                found += by_halves(partial(self._find, names, above), block)
        return found

    def _find(self, names: Sequence[str], above: float, pictures: Sequence[Image.Image]) -> list[Instances]:
        """Of a batch whose padded sizes are equal, so that an image gets what it would get alone."""
        import torch

        with torch.inference_mode():
            pixels_B3HW = torch.stack([prepared_3HW(picture, self._model.device) for picture in pictures])
            output = self._model(
                pixel_values=pixels_B3HW
            )  # no mask of the padding: mmdet has none, and transformers would not read it
            classes_BQK, masks_BQhw = output.class_queries_logits, output.masks_queries_logits
            if not (classes_BQK.isfinite().all() and masks_BQhw.isfinite().all()):
                raise ValueError(f"{self._setting}: the weights give no finite numbers: they are damaged")
            return [
                instances(classes_QK, masks_Qhw, picture.size, names, above)
                for classes_QK, masks_Qhw, picture in zip(classes_BQK, masks_BQhw, pictures, strict=True)
            ]

    @cached_property
    def _model(self) -> Any:
        from transformers import Mask2FormerForUniversalSegmentation

        return self._pretrained.load(Mask2FormerForUniversalSegmentation)


def fitted_size(width: int, height: int) -> tuple[int, int]:
    """Width and height after mmdet's `Resize`: as large as both limits allow, halves rounded up; at least
    a pixel, where mmdet fails.
    """
    scale = min(LONG / max(width, height), SHORT / min(width, height))
    return max(int(width * scale + 0.5), 1), max(int(height * scale + 0.5), 1)


def padded_size(width: int, height: int) -> tuple[int, int]:
    """Width and height after mmdet's `Pad`."""
    return -(-width // MULTIPLE) * MULTIPLE, -(-height // MULTIPLE) * MULTIPLE


def prepared_3HW(picture: Image.Image, device: torch.device) -> torch.Tensor:
    """An RGB image as the model takes it: resized without antialiasing, normalised, padded right and
    below with 0.

    Resized levels are rounded to whole numbers as OpenCV's are; its weights of 11 bits give another one
    here and there, by 1.
    """
    import numpy as np
    import torch

    width, height = fitted_size(*picture.size)
    padded_width, padded_height = padded_size(width, height)
    levels_3HW = torch.from_numpy(np.array(picture)).to(device).permute(2, 0, 1).float()
    levels_3HW = _resized_HW(levels_3HW, width, height).round()
    mean_311, std_311 = (torch.tensor(values, device=device)[:, None, None] for values in (MEAN, STD))
    return torch.nn.functional.pad(
        (levels_3HW - mean_311) / std_311, (0, padded_width - width, 0, padded_height - height)
    )


def instances(
    classes_QK: torch.Tensor,
    masks_Qhw: torch.Tensor,
    size: tuple[int, int],
    names: Sequence[str],
    above: float,
) -> Instances:
    """The instance rule of mmdet's `MaskFormerFusionHead` for one image of `size` (width, height), as
    far as scores are `above`.

    A query can be several objects, of a class each. A score is the probability of the class times the
    mean certainty of the mask, so it is at most the first: the masks of less probable pairs are never
    made. An empty mask scores 0.
    """
    probabilities_QK = classes_QK.softmax(-1)[:, :-1]  # the last class is no object
    best, places = probabilities_QK.flatten().topk(min(BEST, probabilities_QK.numel()))
    masks: dict[int, _Mask] = {}
    found = []
    for probability, place in zip(best.tolist(), places.tolist(), strict=True):
        query, label = divmod(place, probabilities_QK.shape[1])
        if probability > above and query not in masks:
            masks[query] = _mask(masks_Qhw[query], size)
        if probability > above and (score := probability * masks[query].certainty) > above:
            found.append((score, names[label], masks[query]))
    found.sort(key=lambda one: -one[0])
    return Instances(
        frame=size,
        labels=tuple(label for _, label, _ in found),
        boxes=tuple(mask.box for _, _, mask in found),
        scores=tuple(score for score, _, _ in found),
        masks=tuple(mask.pixels for _, _, mask in found),
    )


class _Mask(NamedTuple):
    """Where a query sees an object: the mean probability of its pixels, their box, and themselves within
    it.
    """

    certainty: float
    box: tuple[float, float, float, float]
    pixels: np.ndarray


def _mask(logits_hw: torch.Tensor, size: tuple[int, int]) -> _Mask:
    """One at a time, since at the size of a large image they are large."""
    width, height = fitted_size(*size)
    padded_HW = _resized_HW(logits_hw, *padded_size(width, height))
    logits_HW = _resized_HW(padded_HW[:height, :width], *size)
    mask_HW = logits_HW > 0
    certainty = (logits_HW.sigmoid() * mask_HW).sum() / (mask_HW.sum() + 1e-6)
    pixels_HW = mask_HW.cpu().numpy()
    x1, y1, x2, y2 = box = tight_box(pixels_HW)
    return _Mask(certainty.item(), box, pixels_HW[y1:y2, x1:x2].copy())


def tight_box(mask_HW: np.ndarray) -> tuple[int, int, int, int]:
    """x1, y1, x2, y2 of a boolean mask, the last two a pixel beyond it; zeros where it is empty."""
    import numpy as np

    columns, rows = np.flatnonzero(mask_HW.any(axis=0)), np.flatnonzero(mask_HW.any(axis=1))
    return (
        (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
        if len(rows)
        else (0, 0, 0, 0)
    )


def _resized_HW(map_HW: torch.Tensor, width: int, height: int) -> torch.Tensor:
    """[..., H, W] of another size, bilinear, corners not aligned, no antialiasing."""
    import torch

    shape = map_HW.shape
    resized = torch.nn.functional.interpolate(
        map_HW.reshape(1, -1, *shape[-2:]), (height, width), mode="bilinear", align_corners=False
    )
    return resized.reshape(*shape[:-2], height, width)
