"""3D-spatial (3D_spatial_eval.py, spec section 7): which of the two objects of a prompt is nearer."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np

from benchmarks.mode import Mode
from benchmarks.t2i_compbench.language.tokens import Token
from benchmarks.t2i_compbench.rules import objects
from benchmarks.t2i_compbench.rules.relations import Box4, first_locality, iou, position
from benchmarks.t2i_compbench.rules.spatial import Places, SpatialScore, best_pair, total
from harness.types import Detections

LOCALITIES = ("in front of", "behind", "hidden")  # in the order in which the official script looks for them
ENOUGH = 0.5  # IoU from which one thing stands before the other and not beside it


def position_3d(
    locality: str | None,
    a: Box4,
    b: Box4,
    depth: np.ndarray,
    *,
    mode: Mode = "official",
    frame: tuple[int, int] = (479, 479),
) -> float:
    """How well `a` is `locality` `b`, in [0, 1]; other localities than those of depth are judged in the
    plane.

    `depth` is [H, W] in the frame, 0 far to 1 near. Official: the one must be nearer *and* overlap the
    other (Q12): 2 IoU up to an IoU of 0.5, 1 above, 0 at exactly 0.5. Corrected: 1 if it is nearer.
    """
    if locality not in LOCALITIES:
        return position(locality, a, b, mode=mode, frame=frame)
    return _before(locality, nearness(depth, a, mode), nearness(depth, b, mode)) * (
        1.0 if mode == "corrected" else _overlap(a, b)
    )


def score_3d(
    prompt: str, tokens: Sequence[Token], detections: Detections, depth: np.ndarray, *, mode: Mode
) -> SpatialScore:
    """As `score_2d`, with the relation in depth.

    Official: an object is there if its noun stands within a label, and the scan for both may pass over
    better detections (Q10); there is no cut (Q13). Corrected: the best pair, by the alias table.

    Raises:
        ValueError: the depth map is not as large as the frame, or the rule cannot read the prompt (as in
            `score_2d`).
    """
    width, height = detections.frame
    if depth.shape != (height, width):
        raise ValueError(
            f"a depth map of shape {depth.shape} for a frame of {width} x {height} pixels: it must be "
            f"({height}, {width})"
        )
    boxes = detections.boxes
    if mode == "corrected":
        said = objects.corrected(
            prompt, tokens, complex_prompt=False, prepositions=objects.DEPTH_PREPOSITIONS
        )
        near = cache(lambda place: nearness(depth, boxes[place], mode))
        return best_pair(
            detections, said.objects, said.locality, lambda i, j: _before(said.locality, near(i), near(j))
        )
    locality = first_locality(prompt, LOCALITIES)
    nouns = objects.first_and_last_noun(prompt, tokens)
    found = _overwritten(nouns, detections.labels)
    value = total(detections, found, lambda i, j: position_3d(locality, boxes[i], boxes[j], depth))
    return SpatialScore(value=value, objects=nouns, locality=locality, before_cut=value, found=found)


def nearness(depth: np.ndarray, box: Box4, mode: Mode) -> float:
    """The mean of the depth map within a box.

    Official: of the box with x and y exchanged (Q11), NaN where that is empty; Python's slices take a
    negative bound from the end. Corrected: of its own pixels, at least one.
    """
    x1, y1, x2, y2 = (int(bound) for bound in box)
    if mode == "official":
        region = depth[x1:x2, y1:y2]
    else:
        rows, columns = (
            _within(low, high, size)
            for low, high, size in ((y1, y2, depth.shape[0]), (x1, x2, depth.shape[1]))
        )
        region = depth[rows, columns]
    # in float64, so that flat regions of any size are equal and not apart by rounding
    return float(region.mean(dtype=np.float64)) if region.size else float("nan")


def _within(low: int, high: int, size: int) -> slice:
    start = min(max(low, 0), size - 1)
    return slice(start, max(min(high, size), start + 1))


def _before(locality: str | None, a: float, b: float) -> float:
    """1 if the order in depth is right; NaN is in no order."""
    return float(a > b if locality == "in front of" else a < b)


def _overlap(a: Box4, b: Box4) -> float:
    shared = iou(a, b)
    if shared > ENOUGH:
        return 1.0
    return shared / ENOUGH if 0 < shared < ENOUGH else 0.0


def _overwritten(nouns: objects.Objects, labels: Sequence[str]) -> Places:
    """The official scan: the noun found first is taken again from every later label that holds it, until
    the other is found.
    """
    first, second = nouns
    assert first is not None and second is not None
    both = any(first in label for label in labels) and any(second in label for label in labels)
    found: list[int | None] = [None, None]
    for place, label in enumerate(labels):
        for which, noun in enumerate((first, second)):
            if noun in label and (both or found[which] is None):
                found[which] = place
        if None not in found:
            break
    return found[0], found[1]
