"""The backbone: a residual network and a feature pyramid (arXiv 1612.03144) of five levels on its last
three stages.

Shape letters: B images, C channels, H W rows and columns.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn.functional import interpolate

from benchmarks.t2i_compbench.models.unidet.layers import ConvNorm
from benchmarks.t2i_compbench.models.unidet.resnest import resnest
from benchmarks.t2i_compbench.models.unidet.resnet import resnet
from benchmarks.t2i_compbench.models.unidet.sizes import Sizes


class Backbone(nn.Module):
    """Images to p3, ..., p7."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        split = sizes.variant == "rs200"
        self.bottom_up = resnest(sizes) if split else resnet(sizes)
        conv: Callable[[int, int, int], nn.Module] = ConvNorm if split else _conv
        width, (_, three, four, five) = sizes.features, sizes.outputs
        self.fpn_lateral3, self.fpn_output3 = conv(three, width, 1), conv(width, width, 3)
        self.fpn_lateral4, self.fpn_output4 = conv(four, width, 1), conv(width, width, 3)
        self.fpn_lateral5, self.fpn_output5 = conv(five, width, 1), conv(width, width, 3)
        self.top_block = TopBlock(width)

    def forward(self, images_B3HW: Tensor) -> list[Tensor]:
        """Five maps [B, `features`, h, w] at strides 8, 16, 32, 64 and 128.

        Args:
            images_B3HW: normalised; sides are multiples of 32.
        """
        res3_BCHW, res4_BCHW, res5_BCHW = self.bottom_up(images_B3HW)
        sum5_BCHW = self.fpn_lateral5(res5_BCHW)
        sum4_BCHW = self.fpn_lateral4(res4_BCHW) + interpolate(sum5_BCHW, scale_factor=2.0)
        sum3_BCHW = self.fpn_lateral3(res3_BCHW) + interpolate(sum4_BCHW, scale_factor=2.0)
        p5_BCHW = self.fpn_output5(sum5_BCHW)
        return [self.fpn_output3(sum3_BCHW), self.fpn_output4(sum4_BCHW), p5_BCHW, *self.top_block(p5_BCHW)]


class TopBlock(nn.Module):
    """The two levels beyond the residual network."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.p6, self.p7 = _conv(width, width, 3, stride=2), _conv(width, width, 3, stride=2)

    def forward(self, p5_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        p6_BCHW = self.p6(p5_BCHW)
        return p6_BCHW, self.p7(p6_BCHW.relu())


def _conv(inputs: int, outputs: int, kernel: int, *, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2)
