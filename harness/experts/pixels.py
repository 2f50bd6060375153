"""Preprocessing of images for CLIP and BLIP as in the official programs: PIL, and CLIP's mean and deviation.

Other libraries (torch, "fast" image processors) resize to other pixels, and so to other scores.
Shape letters: H height, W width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL.Image import Image, Resampling

if TYPE_CHECKING:
    import torch

# of red, green and blue in 0..1, from the training of CLIP; BLIP uses the same
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
STRIP = 64  # an image with a larger aspect ratio would not fit into memory once resized: only its middle is


def squeezed(image: Image, side: int) -> Image:
    """RGB of `side` x `side` from an image of any shape: converted first, then resized bicubically (BLIP)."""
    return image.convert("RGB").resize((side, side), Resampling.BICUBIC)


def cropped(image: Image, side: int) -> Image:
    """RGB of `side` x `side` by CLIP's `Resize` and `CenterCrop`, converted to RGB last.

    The short side is resized bicubically to `side`, then the center is cropped. If the aspect ratio exceeds
    `STRIP`, only the center is resized; some pixel levels then differ a little.
    """
    width, height = image.size
    resized_width, resized_height = resized_size(width, height, side)
    left, top = round((resized_width - side) / 2), round((resized_height - side) / 2)
    if max(width, height) <= STRIP * min(width, height):
        resized = image.resize((resized_width, resized_height), Resampling.BICUBIC)
        return resized.crop((left, top, left + side, top + side)).convert("RGB")
    x, y = width / resized_width, height / resized_height
    middle = (left * x, top * y, min((left + side) * x, width), min((top + side) * y, height))
    return image.resize((side, side), Resampling.BICUBIC, middle).convert("RGB")


def resized_size(width: int, height: int, side: int) -> tuple[int, int]:
    """Width and height after CLIP's `Resize`: the short one becomes `side`, the long one is rounded down."""
    if width <= height:
        return side, int(side * height / width)
    return int(side * width / height), side


def unit_3HW(image: Image) -> torch.Tensor:
    """Red, green and blue in 0..1, as [3, H, W]."""
    import numpy as np
    import torch

    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).float() / 255


def normalised_3HW(pixels_3HW: torch.Tensor) -> torch.Tensor:
    """The pixels minus CLIP's mean, divided by its deviation."""
    import torch

    return (pixels_3HW - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
