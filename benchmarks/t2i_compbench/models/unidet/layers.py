"""The layers of UniDet. They only ever run in eval mode.

Shape letters: B images, C channels, H W rows and columns.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor, nn
from torch.nn.functional import max_pool2d
from torch.nn.utils.fusion import fuse_conv_bn_weights

from benchmarks.t2i_compbench.models.unidet.sizes import Sizes


class ConvNorm(nn.Conv2d):
    """A convolution of odd kernel that keeps the size (a stride divides it), without bias, and its batch
    norm.
    """

    norm: nn.Module

    def __init__(self, inputs: int, outputs: int, kernel: int, *, stride: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, input: Tensor) -> Tensor:
        """[B, C, H, W] to [B, `outputs`, H / stride, W / stride], rounded up."""
        return self.norm(super().forward(input))

    def fold(self) -> None:
        self.norm = folded(self, self.norm)


class Block(Protocol):
    def __call__(self, inputs: int, width: int, outputs: int, stride: int) -> nn.Module: ...


class Trunk(nn.Module):
    """A residual network without its classifier: the first block of res3, res4 and res5 has stride 2."""

    def __init__(self, stem: nn.Module, block: Block, sizes: Sizes) -> None:
        super().__init__()
        self.stem = stem
        stages, inputs = [], sizes.stem[-1]
        for place, (count, width, outputs) in enumerate(
            zip(sizes.blocks, sizes.widths, sizes.outputs, strict=True)
        ):
            first = block(inputs, width, outputs, 2 if place else 1)
            stages.append(
                nn.Sequential(first, *(block(outputs, width, outputs, 1) for _ in range(count - 1)))
            )
            inputs = outputs
        self.res2, self.res3, self.res4, self.res5 = stages

    def forward(self, images_B3HW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What res3, res4 and res5 give, at strides 8, 16 and 32."""
        x_BCHW = max_pool2d(self.stem(images_B3HW), 3, stride=2, padding=1)
        res3_BCHW = self.res3(self.res2(x_BCHW))
        res4_BCHW = self.res4(res3_BCHW)
        return res3_BCHW, res4_BCHW, self.res5(res4_BCHW)


@runtime_checkable
class Folding(Protocol):
    """A module with batch norms directly behind convolutions."""

    def fold(self) -> None: ...


def fold_norms(model: nn.Module) -> None:
    """Puts every batch norm into the convolution before it, which spares a pass over its output. For
    weights already loaded.
    """
    for module in list(model.modules()):
        if isinstance(module, Folding):
            module.fold()


def folded(conv: nn.Conv2d, norm: nn.Module) -> nn.Module:
    """What is left of `norm` once `conv`, which gets new tensors, does its work."""
    if isinstance(norm, nn.BatchNorm2d):
        mean_C, variance_C = norm.get_buffer("running_mean"), norm.get_buffer("running_var")
        conv.weight, conv.bias = fuse_conv_bn_weights(
            conv.weight, conv.bias, mean_C, variance_C, norm.eps, norm.weight, norm.bias
        )
    return nn.Identity()
