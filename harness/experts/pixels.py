"""Pictures as the official programs hand them to CLIP and BLIP: resized by PIL, normalised with CLIP's numbers.

Resizing by other libraries (torch, "fast" image processors) gives other pixels, and so other scores.
Shape letters: H height, W width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL.Image import Image, Resampling

if TYPE_CHECKING:
    import torch

MEAN = (
    0.48145466,
    0.4578275,
    0.40821073,
)  # of red, green and blue in 0..1, as CLIP was trained; BLIP has the same
STD = (0.26862954, 0.26130258, 0.27577711)
STRIP = 64  # times as long as wide: beyond, a resized picture is too large for the memory and only its middle is made


def squeezed(image: Image, side: int) -> Image:
    """RGB of `side` x `side`, whatever the picture's shape: bicubic, colors first (BLIP)."""
    return image.convert("RGB").resize((side, side), Resampling.BICUBIC)


def cropped(image: Image, side: int) -> Image:
    """RGB of `side` x `side`: the short side bicubic to `side`, the middle cut out, colors last (CLIP's `Resize`, `CenterCrop`).

    Of a strip more than `STRIP` times as long as wide only the middle is resized; some levels differ a little.
    """
    width, height = image.size
    resized_width, resized_height = resized_size(width, height, side)
    left, top = round((resized_width - side) / 2), round((resized_height - side) / 2)
    if max(width, height) <= STRIP * min(width, height):
        return (
            image.resize((resized_width, resized_height), Resampling.BICUBIC)
            .crop((left, top, left + side, top + side))
            .convert("RGB")
        )
    x, y = width / resized_width, height / resized_height
    middle = (left * x, top * y, min((left + side) * x, width), min((top + side) * y, height))
    return image.resize((side, side), Resampling.BICUBIC, middle).convert("RGB")


def resized_size(width: int, height: int, side: int) -> tuple[int, int]:
    """Width and height after CLIP's `Resize`: the short one becomes `side`, the long one is rounded down."""
    return (side, int(side * height / width)) if width <= height else (int(side * width / height), side)


def unit_3HW(image: Image) -> torch.Tensor:
    """Red, green and blue in 0..1."""
    import numpy as np
    import torch

    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).float() / 255


def normalised_3HW(pixels_3HW: torch.Tensor) -> torch.Tensor:
    """CLIP's mean taken off, divided by its deviation."""
    import torch

    return (pixels_3HW - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
