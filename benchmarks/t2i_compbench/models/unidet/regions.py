"""The features of a box: the pyramid level, ROIAlign (arXiv 1703.06870), and the networks that
summarise them.

Shape letters: C channels, H W rows and columns of a level, L either of them, N boxes, P cells of a side
(7), S samples of a cell.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from benchmarks.t2i_compbench.models.unidet.boxes import areas, torchvision_ops
from benchmarks.t2i_compbench.models.unidet.layers import ConvNorm
from benchmarks.t2i_compbench.models.unidet.proposals import STRIDES
from benchmarks.t2i_compbench.models.unidet.sizes import Sizes

CELLS = 7  # of a side
LEVELS = 3  # p3, p4, p5
MIDDLE = 224  # pixels a side from which on a box is read from p4
CHUNK = 128  # boxes at once: 55 MB for an image of 480 pixels a side


def read_regions(levels: Sequence[Tensor], boxes_N4: Tensor) -> Tensor:
    """The features of one image in each of its boxes, [N, C, 7, 7].

    Args:
        levels: p3, p4 and p5 of the image, [C, H, W] each.
        boxes_N4: in pixels of the image.
    """
    level_N = level_of(boxes_N4)
    cells_NCPP = levels[0].new_empty(len(boxes_N4), len(levels[0]), CELLS, CELLS)
    for place, level_CHW in enumerate(levels):
        for chunk in (level_N == place).nonzero()[:, 0].split(CHUNK):
            cells_NCPP[chunk] = roi_align(level_CHW, boxes_N4[chunk], STRIDES[place]).to(cells_NCPP.dtype)
    return cells_NCPP


def level_of(boxes_N4: Tensor) -> Tensor:
    """0, 1 or 2 for p3, p4 or p5: a box twice as large is read one level higher (arXiv 1612.03144,
    equation 1).
    """
    sides_N = areas(boxes_N4).sqrt()
    level_N = (4 + (sides_N / MIDDLE + 1e-8).log2()).floor()
    return level_N.clamp(3, 2 + LEVELS).long() - 3


def roi_align(level_CHW: Tensor, boxes_N4: Tensor, stride: int) -> Tensor:
    """Means over the 7 x 7 cells of each box, [N, C, 7, 7]: of ceil(extent / 7) samples a side of a cell,
    each read bilinearly.

    Positions are shifted by half a cell of the level, as pixels have their values in their middles.

    Args:
        level_CHW: one level of one image.
        boxes_N4: in pixels of the image.
        stride: pixels a cell of the level.
    """
    ops = torchvision_ops(level_CHW.device)
    if ops is not None:  # in float32: corners are too coarse in half precision
        return ops.roi_align(
            level_CHW[None].float(), [boxes_N4.float()], CELLS, 1 / stride, sampling_ratio=0, aligned=True
        )
    start_N4 = boxes_N4.float() / stride - 0.5
    across_NPW = averages(start_N4[:, 0], start_N4[:, 2], level_CHW.shape[2]).to(level_CHW.dtype)
    down_NPH = averages(start_N4[:, 1], start_N4[:, 3], level_CHW.shape[1]).to(level_CHW.dtype)
    rows_NPWC = torch.tensordot(down_NPH, level_CHW.permute(1, 2, 0), dims=1)
    return (across_NPW[:, None] @ rows_NPWC).permute(0, 3, 1, 2)


def averages(start_N: Tensor, end_N: Tensor, length: int) -> Tensor:
    """How much of each place 0..length-1 is in the mean of each of the 7 cells between start and end, [N,
    7, L].

    A sample within one place outside counts as the outermost place, one beyond as 0. The mean of a box is
    the product of the two of its sides.
    """
    step_N11 = ((end_N - start_N) / CELLS)[:, None, None]
    count_N11 = step_N11.ceil().clamp(min=0)  # of samples; a box without extent has none, and its mean is 0
    some_N11, most = count_N11.clamp(min=1), int(count_N11.max()) if len(count_N11) else 0
    cell_P, sample_S, place_L = (
        torch.arange(count, device=start_N.device) for count in (CELLS, most, length)
    )
    at_NPS = start_N[:, None, None] + cell_P[:, None] * step_N11 + (sample_S + 0.5) * step_N11 / some_N11
    within_NPS = (sample_S < count_N11) & (at_NPS >= -1) & (at_NPS <= length)
    shares_NPSL = (1 - (at_NPS.clamp(0, length - 1)[..., None] - place_L).abs()).clamp(min=0)
    return (shares_NPSL * within_NPS[..., None]).sum(dim=2) / some_N11


def box_head(sizes: Sizes) -> nn.Sequential:
    """Regions [N, C, 7, 7] to vectors [N, `hidden`]."""
    width, flat = sizes.features, sizes.features * CELLS**2
    layers: list[tuple[str, nn.Module]] = []
    if sizes.variant == "rs200":
        for place in range(1, 5):
            layers += [(f"conv{place}", ConvNorm(width, width, 3)), (f"relu{place}", nn.ReLU())]
    layers += [("flat", nn.Flatten()), ("fc1", nn.Linear(flat, sizes.hidden)), ("relu", nn.ReLU())]
    if sizes.variant == "r50":
        layers += [("fc2", nn.Linear(sizes.hidden, sizes.hidden)), ("last", nn.ReLU())]
    return nn.Sequential(OrderedDict(layers))
