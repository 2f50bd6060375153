"""Boxes in pixels as x1, y1, x2, y2: decoded from deltas, clipped, compared, and suppressed by
overlap.

Shape letters: N, M boxes, 4 corner coordinates.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

WIDEST = math.log(1000 / 16)  # of the logarithm by which one step may widen a box
BLOCK = 512  # boxes that are compared with one another at once
FEW = 20_000  # boxes whose every pair torchvision marks without much memory


def decode(deltas_N4: Tensor, boxes_N4: Tensor, weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0)) -> Tensor:
    """Boxes moved by (dx, dy) times their size and grown by exp(dw, dh), each delta divided by its weight
    first.

    The rule of R-CNN (arXiv 1311.2524, appendix C), with dw and dh at most log(1000 / 16). [N, 4], in
    float32.
    """
    boxes_N4, deltas_N4 = boxes_N4.float(), deltas_N4.float()
    deltas_N4 = deltas_N4 / deltas_N4.new_tensor(weights)
    sizes_N2 = boxes_N4[:, 2:] - boxes_N4[:, :2]
    centres_N2 = boxes_N4[:, :2] + 0.5 * sizes_N2 + deltas_N4[:, :2] * sizes_N2
    halves_N2 = 0.5 * deltas_N4[:, 2:].clamp(max=WIDEST).exp() * sizes_N2
    return torch.cat([centres_N2 - halves_N2, centres_N2 + halves_N2], dim=1)


def clip(boxes_N4: Tensor, size: tuple[int, int]) -> Tensor:
    """The boxes cut off at the borders of an image of `size` (height, width)."""
    height, width = size
    return boxes_N4.clamp(min=0).minimum(boxes_N4.new_tensor([width, height, width, height]))


def check_finite(*tensors: Tensor) -> None:
    """Checks that all values are finite. NaN passes every threshold unseen, and the image would look empty.

    Raises:
        FloatingPointError: a value is NaN or infinite.
    """
    if not all(bool(tensor.isfinite().all()) for tensor in tensors):
        raise FloatingPointError(
            "the detector's numbers are not finite: are its weights whole? If they are, compute in float32"
        )


def is_real(boxes_N4: Tensor) -> Tensor:
    """True for boxes that are wider and higher than nothing."""
    return (boxes_N4[:, 2:] > boxes_N4[:, :2]).all(dim=1)


def areas(boxes_N4: Tensor) -> Tensor:
    """In square pixels."""
    return (boxes_N4[:, 2] - boxes_N4[:, 0]) * (boxes_N4[:, 3] - boxes_N4[:, 1])


def overlaps(boxes_N4: Tensor, others_M4: Tensor) -> Tensor:
    """Intersection over union of every box with every other, [N, M]; of two boxes without area it is no
    number.
    """
    corner_NM2 = torch.maximum(boxes_N4[:, None, :2], others_M4[:, :2])
    sides_NM2 = (torch.minimum(boxes_N4[:, None, 2:], others_M4[:, 2:]) - corner_NM2).clamp(min=0)
    shared_NM = sides_NM2[..., 0] * sides_NM2[..., 1]
    return shared_NM / (areas(boxes_N4)[:, None] + areas(others_M4) - shared_NM)


def nms(boxes_N4: Tensor, scores_N: Tensor, groups_N: Tensor, *, threshold: float, limit: int) -> Tensor:
    """Places of the boxes that stay, best first: greedy non-maximum suppression within each group.

    A box goes where a better one of its group that stays overlaps it by more than `threshold`. Of equal
    scores the earlier box is the better. Only the best `limit` are sought, over all groups.

    Args:
        boxes_N4: in pixels.
        scores_N: of any scale.
        groups_N: whole numbers (a level, a class); boxes of different groups do not compete.
        threshold: intersection over union.
        limit: how many may stay.
    """
    ops = torchvision_ops(boxes_N4.device) if len(boxes_N4) <= FEW else None
    if ops is not None:
        return ops.nms(_apart(boxes_N4, groups_N), scores_N.double(), threshold)[:limit]

    def beats(first: Tensor, second: Tensor) -> Tensor:
        return (groups_N[first, None] == groups_N[second]) & (
            overlaps(boxes_N4[first], boxes_N4[second]) > threshold
        )

    ranked_N = scores_N.argsort(descending=True, stable=True)
    kept = ranked_N[:0]
    for block in ranked_N.split(BLOCK):
        free = block[~beats(kept, block).any(dim=0)]
        kept = torch.cat([kept, free[_survivors(beats(free, free).triu(1))]])
        if len(kept) >= limit:
            break
    return kept[:limit]


def _survivors(beats_NN: Tensor) -> Tensor:
    """Who stays where row i, if it stays itself, beats column j > i.

    All are assumed to stay, then whom the present survivors beat goes, until nothing changes: after n
    rounds the first n are settled, so the end is that of the loop over all boxes, mostly after a few
    rounds.
    """
    stays_N = torch.ones(len(beats_NN), dtype=torch.bool, device=beats_NN.device)
    while True:
        now_N = ~(beats_NN & stays_N[:, None]).any(dim=0)
        if torch.equal(now_N, stays_N):
            return stays_N
        stays_N = now_N


def _apart(boxes_N4: Tensor, groups_N: Tensor) -> Tensor:
    """The boxes with each group moved to a place of its own; in float64, so that moving them rounds
    nothing that matters.
    """
    if not len(boxes_N4):
        return boxes_N4.double()
    span = (boxes_N4.max() - boxes_N4.min()).double() + 1
    return boxes_N4.double() + (groups_N.double() * span)[:, None]


@cache
def torchvision_ops(device: torch.device) -> Any:
    """`torchvision.ops`, whose kernels are faster and give the same; None where they do not run on the
    device.
    """
    try:
        import torchvision.ops

        torchvision.ops.nms(torch.zeros(1, 4, device=device), torch.zeros(1, device=device), 0.5)
    except Exception:  # one built for another torch, or without this device, fails in its own ways
        return None
    return torchvision.ops
