"""The size of the image that detectors and CLIP see (torchvision's `Resize`, spec sections 3 and 4)."""

from __future__ import annotations

from benchmarks.t2i_compbench.models.frame import frame_size, scaled

__all__ = ["CLIP", "clip_size", "frame_size"]

CLIP = 224


def clip_size(width: int, height: int) -> tuple[int, int]:
    """Width and height in pixels before the centre crop of CLIP (`Resize(224)`).

    Raises:
        ValueError: a side is below 1.
    """
    short, long = scaled(width, height, CLIP)
    return (short, long) if width <= height else (long, short)
