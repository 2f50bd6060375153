"""The backbones of UniDet, tiny and random, beside plain ways to the same; the official numbers are
held in tests/conformance.
"""

from __future__ import annotations

import mini_unidet
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from unidet_weights import VARIANTS

from benchmarks.t2i_compbench.models.unidet.fpn import Backbone
from benchmarks.t2i_compbench.models.unidet.layers import ConvNorm, fold_norms
from benchmarks.t2i_compbench.models.unidet.resnest import Bottleneck as SplitBottleneck
from benchmarks.t2i_compbench.models.unidet.resnest import SplitAttention
from benchmarks.t2i_compbench.models.unidet.resnet import Bottleneck

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.inference_mode():
        yield


@pytest.fixture(params=VARIANTS)
def backbone(request) -> Backbone:
    return filled(Backbone(mini_unidet.SIZES[request.param]))


def filled(module: nn.Module) -> nn.Module:
    """With norms that do something, in eval mode."""
    generator = torch.Generator().manual_seed(3)
    for name, value in module.state_dict().items():
        if value.is_floating_point():
            drawn = torch.randn(value.shape, generator=generator)
            value.copy_(
                drawn.mul(0.1).exp() if "var" in name else drawn if value.ndim == 4 else 1 + 0.2 * drawn
            )
    return module.eval()


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(5))


def far(found: Tensor, wanted: Tensor) -> float:
    assert found.shape == wanted.shape
    return ((found - wanted).abs().max() / wanted.abs().max()).item()


@pytest.mark.parametrize(("height", "width"), [(32, 32), (64, 160), (128, 96)])
def test_five_levels_each_half_as_fine_as_the_one_before(backbone, height, width):
    levels = backbone(noise(2, 3, height, width))
    assert [[*level.shape] for level in levels] == [
        [2, 8, -(-height // stride), -(-width // stride)] for stride in (8, 16, 32, 64, 128)
    ]


def test_an_image_has_the_same_features_alone_and_among_others(backbone):
    images = noise(3, 3, 64, 96)
    for place in range(3):
        for together, alone in zip(backbone(images), backbone(images[place : place + 1]), strict=True):
            assert far(together[place : place + 1], alone) < 1e-5


def test_norms_in_their_convolutions_change_nothing_but_the_time(backbone):
    images, before = (
        noise(2, 3, 64, 64),
        {name: value.clone() for name, value in backbone.state_dict().items()},
    )
    tensors, plain = backbone.state_dict(), backbone(images)
    fold_norms(backbone)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in backbone.modules())
    assert all(tensors[name].equal(value) for name, value in before.items())  # somebody else may hold them
    for again in range(2):
        assert all(
            far(found, wanted) < 1e-5 for found, wanted in zip(backbone(images), plain, strict=True)
        ), again
        fold_norms(backbone)


@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (3, 1), (3, 2), (7, 2)])
def test_a_convolution_has_no_bias_and_a_norm_of_stored_statistics(kernel, stride):
    layer, x = filled(ConvNorm(4, 6, kernel, stride=stride)), noise(2, 4, 9, 12)
    mean, variance, scale, shift = (
        getattr(layer.norm, name)[:, None, None] for name in ("running_mean", "running_var", "weight", "bias")
    )
    plain = functional.conv2d(x, layer.weight, None, stride, kernel // 2)
    assert far(layer(x), (plain - mean) / (variance + 1e-5).sqrt() * scale + shift) < 1e-5


def split_attention(layer: SplitAttention, x: Tensor) -> Tensor:
    """The two halves one by one, and a softmax."""
    splits = torch.stack(
        [
            functional.conv2d(*pair, padding=1)
            for pair in zip(x.chunk(2, 1), layer.conv.weight.chunk(2), strict=True)
        ]
    )
    splits = layer.bn0(splits.transpose(0, 1).flatten(1, 2)).relu().unflatten(1, (2, -1))
    logits = layer.fc2(layer.bn1(layer.fc1(splits.sum(1).mean((2, 3), keepdim=True))).relu())
    return (splits * logits.unflatten(1, (2, -1)).softmax(1)).sum(1)


@pytest.mark.parametrize(("width", "inner"), [(4, 32), (64, 32), (80, 40)])
def test_two_convolutions_share_every_channel_by_a_softmax(width, inner):
    layer, x = filled(SplitAttention(width)), 0.1 * noise(2, width, 5, 7)
    assert layer.fc1.out_channels == inner
    assert far(layer(x), split_attention(layer, x)) < 1e-5


@pytest.mark.parametrize("stride", [1, 2])
def test_a_split_block_pools_where_it_has_a_stride(stride):
    """Seven rows: the last pool of the shortcut is of one row only, and its mean is of what is there."""
    block, x = filled(SplitBottleneck(6, 4, 10, stride)), noise(2, 6, 7, 8)
    y, short = split_attention(block.conv2, block.conv1(x).relu()), x
    if stride == 2:
        y = functional.avg_pool2d(functional.pad(y, (1, 1, 1, 1)), 3, 2)
        row = functional.pad(x, (0, 0, 0, 1)).unflatten(2, (4, 2)).unflatten(4, (4, 2)).sum((3, 5))
        short = row / torch.tensor([4, 4, 4, 2])[:, None]
    assert far(block(x), (block.conv3(y) + block.shortcut(short)).relu()) < 1e-5


@pytest.mark.parametrize("stride", [1, 2])
def test_a_plain_block_has_its_stride_in_the_first_convolution(stride):
    block, x = filled(Bottleneck(6, 4, 10, stride)), noise(2, 6, 8, 8)
    seen = x[:, :, ::stride, ::stride]
    block.conv1.stride = block.shortcut.stride = (1, 1)
    wanted = (block.conv3(block.conv2(block.conv1(seen).relu()).relu()) + block.shortcut(seen)).relu()
    block.conv1.stride = block.shortcut.stride = (stride, stride)
    assert far(block(x), wanted) < 1e-5


@pytest.mark.parametrize("kind", [Bottleneck, SplitBottleneck])
def test_a_block_of_equal_ends_adds_what_it_was_given_and_leaves_it_as_it_is(kind):
    block, x = filled(kind(10, 4, 10, 1)), noise(1, 10, 6, 6)
    before = x.clone()
    assert far(block(x), (block.conv3(block.conv2(block.conv1(x).relu()).relu()) + x).relu()) < 1e-5
    assert x.equal(before)


def test_the_pyramid_adds_each_level_to_the_finer_one_below(backbone):
    images = noise(1, 3, 64, 96)
    res3, res4, res5 = backbone.bottom_up(images)
    five = backbone.fpn_lateral5(res5)
    four = backbone.fpn_lateral4(res4) + twice(five)
    three = backbone.fpn_lateral3(res3) + twice(four)
    p5 = backbone.fpn_output5(five)
    p6 = backbone.top_block.p6(p5)
    wanted = [
        backbone.fpn_output3(three),
        backbone.fpn_output4(four),
        p5,
        p6,
        backbone.top_block.p7(p6.clamp(min=0)),
    ]
    assert all(far(found, level) < 1e-6 for found, level in zip(backbone(images), wanted, strict=True))


def twice(level: Tensor) -> Tensor:
    return level.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
