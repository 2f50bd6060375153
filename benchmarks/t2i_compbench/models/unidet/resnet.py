"""ResNet (arXiv 1512.03385) as in MSRA's weights: the stride of a stage is that of its first 1x1 convolution.

Shape letters: B images, C channels, H W rows and columns.
"""

from __future__ import annotations

from torch import Tensor, nn

from benchmarks.t2i_compbench.models.unidet.layers import ConvNorm, Trunk
from benchmarks.t2i_compbench.models.unidet.sizes import Sizes


class Stem(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(3, width, 7, stride=2)

    def forward(self, images_B3HW: Tensor) -> Tensor:
        return self.conv1(images_B3HW).relu_()


class Bottleneck(nn.Module):
    def __init__(self, inputs: int, width: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(inputs, width, 1, stride=stride)
        self.conv2 = ConvNorm(width, width, 3)
        self.conv3 = ConvNorm(width, outputs, 1)
        self.shortcut = ConvNorm(inputs, outputs, 1, stride=stride) if inputs != outputs else nn.Identity()

    def forward(self, x_BCHW: Tensor) -> Tensor:
        y_BCHW = self.conv2(self.conv1(x_BCHW).relu_()).relu_()
        return self.conv3(y_BCHW).add_(self.shortcut(x_BCHW)).relu_()


def resnet(sizes: Sizes) -> Trunk:
    (width,) = sizes.stem
    return Trunk(Stem(width), Bottleneck, sizes)
