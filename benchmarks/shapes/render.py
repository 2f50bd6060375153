"""Renders objects as pixels: silhouettes of whole cells, filled with a texture that has a period of
one cell.

Silhouettes and textures are aligned to the cells of 4 x 4 pixels (one image token each). An image
therefore consists of few distinct cells, and a small codebook reconstructs it without loss.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from PIL import Image

from benchmarks.shapes.relations import PIXELS
from benchmarks.shapes.scene import CELL, Scene
from benchmarks.shapes.vocabulary import COLORS, DARK, WHITE


@cache
def silhouette(shape: str, cells: int) -> np.ndarray:
    """Boolean mask, (cells * CELL) square, of a shape; it touches all four sides of its box."""
    side = cells * CELL
    y, x = np.mgrid[0:side, 0:side]
    right, bottom = side - 1 - x, side - 1 - y
    corner = np.minimum(x, right) + np.minimum(y, bottom)  # steps from the nearest corner
    if shape == "square":
        return np.ones((side, side), bool)
    if shape == "circle":
        return corner >= cells * CELL // 4  # an octagon: what a circle is at this size
    if shape == "diamond":
        return corner >= side // 2 - 1
    if shape == "triangle":
        return np.abs(2 * x - (side - 1)) <= y // 2 * 2 + 1
    raise ValueError(f"no shape {shape!r}")


def texture_mask(texture: str, height: int, width: int) -> np.ndarray:
    """Boolean mask (height, width) of the dark pixels of a texture, in phase with the grid."""
    y, x = np.mgrid[0:height, 0:width] % CELL
    if texture == "plain":
        return np.zeros((height, width), bool)
    if texture == "striped":
        return y >= 2
    if texture == "dotted":
        return (y % 3 != 0) & (x % 3 != 0)
    raise ValueError(f"no texture {texture!r}")


@cache
def sprite(shape: str, color: str, texture: str, cells: int) -> np.ndarray:
    """An object on white: uint8 (side, side, 3)."""
    mask = silhouette(shape, cells)
    picture = np.full((*mask.shape, 3), WHITE, np.uint8)
    picture[mask] = COLORS[color]
    picture[mask & texture_mask(texture, *mask.shape)] = DARK
    return picture


def render(scene: Scene) -> Image.Image:
    """The scene as a 24 x 24 RGB image."""
    picture = np.full((PIXELS, PIXELS, 3), 255, np.uint8)
    for thing in scene.objects:
        x1, y1, x2, y2 = thing.corners
        picture[y1:y2, x1:x2] = sprite(thing.shape, thing.color, thing.texture, thing.cells)
    return Image.fromarray(picture)
