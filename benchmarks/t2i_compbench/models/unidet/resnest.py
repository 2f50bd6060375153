"""ResNeSt (arXiv 2004.08955) of radix 2, with the average pools of its larger models in place of strides.

Shape letters: B images, C channels, H W rows and columns.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from benchmarks.t2i_compbench.models.unidet.layers import ConvNorm, Trunk, folded
from benchmarks.t2i_compbench.models.unidet.sizes import Sizes


class Stem(nn.Module):
    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        first, second, third = widths
        self.conv1_1 = ConvNorm(3, first, 3, stride=2)
        self.conv1_2 = ConvNorm(first, second, 3)
        self.conv1_3 = ConvNorm(second, third, 3)

    def forward(self, images_B3HW: Tensor) -> Tensor:
        for conv in (self.conv1_1, self.conv1_2, self.conv1_3):
            images_B3HW = conv(images_B3HW).relu_()
        return images_B3HW


class SplitAttention(nn.Module):
    """Two 3x3 convolutions, each of half the channels, and for every channel and image the share of each
    in the result.
    """

    bn0: nn.Module
    bn1: nn.Module

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = max(width // 2, 32)
        self.conv = nn.Conv2d(width, 2 * width, 3, padding=1, groups=2, bias=False)
        self.bn0 = nn.BatchNorm2d(2 * width)
        self.fc1 = nn.Conv2d(width, inner, 1)
        self.bn1 = nn.BatchNorm2d(inner)
        self.fc2 = nn.Conv2d(inner, 2 * width, 1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        first_BCHW, second_BCHW = self.bn0(self.conv(x_BCHW)).relu_().chunk(2, dim=1)
        mean_BC11 = first_BCHW.mean((2, 3), keepdim=True) + second_BCHW.mean((2, 3), keepdim=True)
        logits_BC11 = self.fc2(self.bn1(self.fc1(mean_BC11)).relu_())
        mine_BC11, other_BC11 = logits_BC11.chunk(2, dim=1)
        share_BC11 = (mine_BC11 - other_BC11).sigmoid()  # the softmax over two
        return torch.lerp(second_BCHW, first_BCHW, share_BC11)

    def fold(self) -> None:
        self.bn0, self.bn1 = folded(self.conv, self.bn0), folded(self.fc1, self.bn1)


class Bottleneck(nn.Module):
    def __init__(self, inputs: int, width: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.conv1 = ConvNorm(inputs, width, 1)
        self.conv2 = SplitAttention(width)
        self.conv3 = ConvNorm(width, outputs, 1)
        self.shortcut = ConvNorm(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x_BCHW: Tensor) -> Tensor:
        y_BCHW = self.conv2(self.conv1(x_BCHW).relu_())
        if self.stride > 1:
            y_BCHW = avg_pool2d(y_BCHW, 3, self.stride, padding=1)
            x_BCHW = avg_pool2d(x_BCHW, self.stride, self.stride, ceil_mode=True, count_include_pad=False)
        return self.conv3(y_BCHW).add_(self.shortcut(x_BCHW)).relu_()


def resnest(sizes: Sizes) -> Trunk:
    return Trunk(Stem(sizes.stem), Bottleneck, sizes)
