"""The region proposal network (arXiv 1506.01497): boxes that may hold an object, from all five pyramid
levels.

Shape letters: B batch, C channels, H W rows and columns of a level, A anchors of a cell, N boxes, 4
corners or deltas.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import torch
from torch import Tensor, nn

from benchmarks.t2i_compbench.models.unidet.boxes import check_finite, clip, decode, is_real, nms

STRIDES = (8, 16, 32, 64, 128)  # pixels a cell of p3, p4, p5, p6, p7
SIDES = tuple(4 * 2 ** (third / 3) for third in range(3))  # of the anchors, in strides
RATIOS = (0.5, 1.0, 2.0)  # height to width
OVERLAP = 0.7
PER_LEVEL = 1000  # candidates of a level
PER_IMAGE = 1000  # proposals


def anchors(rows: int, columns: int, stride: int, device: torch.device | str = "cpu") -> Tensor:
    """Boxes about (column, row) times `stride`, not about the middle of the cell: [rows * columns * 9, 4].

    The order is row, column, side, ratio, as that of the network's numbers.
    """
    shapes = []
    for side, ratio in product(SIDES, RATIOS):
        shapes.append((side * stride / ratio**0.5, side * stride * ratio**0.5))
    cell_A4 = torch.tensor(
        [[-width / 2, -height / 2, width / 2, height / 2] for width, height in shapes], device=device
    )
    y, x = torch.meshgrid(
        torch.arange(rows, device=device), torch.arange(columns, device=device), indexing="ij"
    )
    centres_HW4 = stride * torch.stack([x, y, x, y], dim=-1).float()
    return (centres_HW4[:, :, None] + cell_A4).reshape(-1, 4)


class RpnHead(nn.Module):
    """The same small network for every level: a logit and four deltas of every anchor."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        count = len(SIDES) * len(RATIOS)
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.objectness_logits = nn.Conv2d(channels, count, 1)
        self.anchor_deltas = nn.Conv2d(channels, 4 * count, 1)

    def forward(self, level_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [B, H * W * A] and deltas [B, H * W * A, 4], in the order of `anchors`, in float32."""
        hidden_BCHW = self.conv(level_BCHW).relu()
        logits_BAHW = self.objectness_logits(hidden_BCHW).float()
        deltas_BA4HW = self.anchor_deltas(hidden_BCHW).float().unflatten(1, (-1, 4))
        return logits_BAHW.permute(0, 2, 3, 1).flatten(1), deltas_BA4HW.permute(0, 3, 4, 1, 2).flatten(1, 3)


class ProposalGenerator(nn.Module):
    """Boxes worth looking at, of every image of a batch."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.rpn_head = RpnHead(channels)

    def forward(
        self, levels: Sequence[Tensor], sizes: Sequence[tuple[int, int]]
    ) -> list[tuple[Tensor, Tensor]]:
        """Of each image at most 1000 boxes [N, 4] and their logits [N], best first.

        Args:
            levels: p3 to p7, [B, C, H, W] each.
            sizes: height and width of each image in pixels, without padding; its boxes end there.

        Raises:
            FloatingPointError: the network's numbers are not finite.
        """
        found = [
            self._candidates(level_BCHW, stride) for level_BCHW, stride in zip(levels, STRIDES, strict=True)
        ]
        boxes_BN4 = torch.cat([boxes for boxes, _ in found], dim=1)
        logits_BN = torch.cat([logits for _, logits in found], dim=1)
        check_finite(boxes_BN4, logits_BN)
        levels_N = torch.cat(
            [torch.full_like(logits[0], place, dtype=torch.long) for place, (_, logits) in enumerate(found)]
        )
        return [
            _thinned(boxes, logits, levels_N, size)
            for boxes, logits, size in zip(boxes_BN4, logits_BN, sizes, strict=True)
        ]

    def _candidates(self, level_BCHW: Tensor, stride: int) -> tuple[Tensor, Tensor]:
        """The boxes [B, n, 4] with the best logits [B, n] of a level, n at most 1000."""
        logits_BN, deltas_BN4 = self.rpn_head(level_BCHW)
        anchors_N4 = anchors(level_BCHW.shape[2], level_BCHW.shape[3], stride, level_BCHW.device)
        logits_BN, order_BN = logits_BN.sort(dim=1, descending=True, stable=True)
        best_BN = order_BN[:, :PER_LEVEL]
        boxes = [
            decode(deltas_N4[best_N], anchors_N4[best_N])
            for deltas_N4, best_N in zip(deltas_BN4, best_BN, strict=True)
        ]
        return torch.stack(boxes), logits_BN[:, :PER_LEVEL]


def _thinned(
    boxes_N4: Tensor, logits_N: Tensor, levels_N: Tensor, size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """What of an image's candidates is within it and stays beside its neighbours of the same level."""
    boxes_N4 = clip(boxes_N4, size)
    real_N = is_real(boxes_N4)
    boxes_N4, logits_N, levels_N = boxes_N4[real_N], logits_N[real_N], levels_N[real_N]
    kept = nms(boxes_N4, logits_N, levels_N, threshold=OVERLAP, limit=PER_IMAGE)
    return boxes_N4[kept], logits_N[kept]
