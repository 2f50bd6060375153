"""The size of the image that T2I-CompBench's detectors see (torchvision's `Resize(479,
max_size=480)`).
"""

from __future__ import annotations

FRAME = 480  # pixels; the longest side of a frame
SHORT = 479  # pixels; its shorter side, where the image is near enough to a square


def frame_size(width: int, height: int) -> tuple[int, int]:
    """Width and height of the frame of the detectors for an image of this size, in pixels.

    Raises:
        ValueError: there is no such frame: a side is below 1, or the image is so narrow that it would
            vanish.
    """
    short, long = scaled(width, height, SHORT)
    if long > FRAME:
        short, long = int(FRAME * short / long), FRAME
    if short < 1:
        raise ValueError(
            f"an image of {width} x {height} pixels would be less than one pixel wide in a frame of "
            f"{FRAME}: crop it"
        )
    return (short, long) if width <= height else (long, short)


def scaled(width: int, height: int, short: int) -> tuple[int, int]:
    """The sides, shorter one first, after the shorter one became `short`; the longer one is rounded down.

    Raises:
        ValueError: a side is below 1.
    """
    if min(width, height) < 1:
        raise ValueError(f"an image of {width} x {height} pixels: both sides are at least 1")
    return short, int(short * max(width, height) / min(width, height))
