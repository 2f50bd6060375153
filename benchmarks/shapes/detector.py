"""Pixels to objects: nearest palette color, connected regions, best silhouette, best texture.

It sees the image only, never the scene that made it. On drawn scenes it is exact; on imperfect images
the score says how much of the region looks as its label says.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from PIL import Image

from benchmarks.shapes.relations import PIXELS, thousandths
from benchmarks.shapes.render import silhouette, texture_mask
from benchmarks.shapes.scene import BIG, CELL, GRID, SMALL
from benchmarks.shapes.vocabulary import COLORS, DARK, SHAPES, TEXTURES, WHITE, Attributes
from harness.types import Box, Detection

MIN_PIXELS = 12  # smaller regions are specks; the smallest object has 40
MIN_SCORE = 0.5  # a region that matches no label better is no object
_REACH = 2  # pixels from a dark pixel of a texture to the nearest one of its object's color, at most

_PALETTE = np.array([WHITE, DARK, *COLORS.values()], np.float32)
_COLOR_NAMES = tuple(COLORS)


class ShapesDetector:
    """The object detector of the shapes world (`harness.protocols.Detector`)."""

    def detect(self, images: Sequence[Image.Image]) -> list[list[Detection]]:
        """Objects of each image by falling score; labels are spelled as in chains, e.g. `red striped
        circle`.
        """
        found: list[list[Detection]] = [[] for _ in images]
        if not images:
            return found
        dark_NYX, owner_NCYX = _segment(np.stack([_canvas(image) for image in images]))
        index_K, region_KYX = _regions(owner_NCYX.reshape(-1, PIXELS, PIXELS))
        picture_K, color_K = index_K // len(COLORS), index_K % len(COLORS)
        shape_K, overlap_K = _best_silhouette(region_KYX)
        texture_K, agreement_K = _best_texture(region_KYX, dark_NYX[picture_K])
        for k, score in enumerate((overlap_K * agreement_K).tolist()):
            if score >= MIN_SCORE:
                shown = Attributes(
                    shape=SHAPES[shape_K[k]], color=_COLOR_NAMES[color_K[k]], texture=TEXTURES[texture_K[k]]
                )
                found[picture_K[k]].append(
                    Detection(label=shown.name, box=_box(region_KYX[k]), score=round(score, 6))
                )
        for detections in found:
            detections.sort(key=lambda seen: (-seen.score, seen.box.y1, seen.box.x1, seen.label))
        return found


def _canvas(image: Image.Image) -> np.ndarray:
    """RGB uint8 (PIXELS, PIXELS, 3); images of another size are resampled."""
    image = image.convert("RGB")
    if image.size != (PIXELS, PIXELS):
        image = image.resize((PIXELS, PIXELS), Image.Resampling.BOX)
    return np.asarray(image)


def _segment(pixels_NYX3: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which pixels are dark (N, Y, X), and which belong to each color (N, C, Y, X), dark ones to the
    color around them.
    """
    flat = pixels_NYX3.reshape(-1, 3).astype(np.float32)
    distance = (_PALETTE**2).sum(1) - 2 * flat @ _PALETTE.T  # less the square of the pixel, the same for all
    nearest = distance.argmin(1).reshape(pixels_NYX3.shape[:3])
    dark_NYX = nearest == 1
    owner_NCYX = nearest[:, None] == np.arange(2, len(_PALETTE))[:, None, None]
    votes = _box_sum(_box_sum(owner_NCYX.astype(np.uint8), 2), 3)
    winner = (votes.argmax(1)[:, None] == np.arange(len(COLORS))[:, None, None]) & (votes > 0)
    return dark_NYX, owner_NCYX | (winner & dark_NYX[:, None])


def _box_sum(values: np.ndarray, axis: int) -> np.ndarray:
    """Sums over a window of _REACH on both sides along an axis; nothing beyond the border."""
    total = values.copy()
    source, target = np.moveaxis(values, axis, 0), np.moveaxis(total, axis, 0)
    for shift in range(1, _REACH + 1):
        target[shift:] += source[:-shift]
        target[:-shift] += source[shift:]
    return total


def _regions(planes_PYX: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Regions connected by edges within a plane: the plane of each (K,), and its boolean mask (K, Y, X)."""
    from scipy import ndimage  # slow to import, and whoever only plans or samples prompts needs none of it

    edges_within_plane = np.zeros((3, 3, 3), bool)
    edges_within_plane[1] = ndimage.generate_binary_structure(2, 1)
    labels, count = ndimage.label(planes_PYX, structure=edges_within_plane)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    kept = np.flatnonzero(sizes[1:] >= MIN_PIXELS) + 1
    first = np.zeros(count + 1, np.int64)
    occupied = np.flatnonzero(labels)
    first[labels.ravel()[occupied]] = occupied
    plane_K = first[kept] // (PIXELS * PIXELS)
    return plane_K, labels[plane_K] == kept[:, None, None]


@lru_cache(maxsize=1)
def _silhouettes() -> tuple[np.ndarray, np.ndarray]:
    """Every shape at both sizes at every place of the grid: which shape (T,), and masks as columns (Y *
    X, T).
    """
    shapes, masks = [], []
    for index, shape in enumerate(SHAPES):
        for cells in (SMALL, BIG):
            for place in np.ndindex(GRID - cells + 1, GRID - cells + 1):
                y, x = (CELL * step for step in place)
                mask = np.zeros((PIXELS, PIXELS), np.float32)
                mask[y : y + cells * CELL, x : x + cells * CELL] = silhouette(shape, cells)
                shapes.append(index)
                masks.append(mask.ravel())
    return np.array(shapes), np.stack(masks, 1)


def _best_silhouette(region_KYX: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Per region the shape (index into SHAPES) and the IoU with its best placement."""
    shape_T, masks_PT = _silhouettes()
    region_KP = region_KYX.reshape(len(region_KYX), PIXELS * PIXELS).astype(np.float32)
    common_KT = region_KP @ masks_PT
    iou_KT = common_KT / (region_KP.sum(1)[:, None] + masks_PT.sum(0) - common_KT)
    best_K = iou_KT.argmax(1)
    return shape_T[best_K], iou_KT[np.arange(len(best_K)), best_K]


def _best_texture(region_KYX: np.ndarray, dark_KYX: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Per region the texture (index into TEXTURES) and the share of its pixels that are dark or not as
    that texture wants.
    """
    wanted_RYX = np.stack([texture_mask(texture, PIXELS, PIXELS) for texture in TEXTURES])
    agree_KRYX = (dark_KYX[:, None] == wanted_RYX) & region_KYX[:, None]
    share_KR = agree_KRYX.sum((2, 3)) / region_KYX.sum((1, 2))[:, None]
    best_K = share_KR.argmax(1)
    return best_K, share_KR[np.arange(len(best_K)), best_K]


def _box(region_YX: np.ndarray) -> Box:
    rows, columns = np.flatnonzero(region_YX.any(1)), np.flatnonzero(region_YX.any(0))
    return thousandths((int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1))
