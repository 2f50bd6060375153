"""Packed products equal the layers they are made of: side by side, with biases, with adapters, in
either number format.
"""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import nn

from policies.janus import projections
from policies.janus.projections import Projection, merged_weight


class WithoutBfloat16:
    """oneDNN's operators as a processor without AVX512 has them: float32 alone."""

    def __init__(self, operators) -> None:
        self._linear_pointwise, self._reorder_linear_weight = operators._linear_pointwise, self._reorder
        self._original = operators._reorder_linear_weight

    def _is_mkldnn_bf16_supported(self) -> bool:
        return False

    def _reorder(self, weight: torch.Tensor) -> torch.Tensor:
        assert weight.dtype == torch.float32, "bf16 path needs the cpu support avx_ne_convert or avx512bw"
        return self._original(weight)


@pytest.fixture(params=["packed", "packed without AVX512", "plain"])
def packing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With oneDNN's layout, on a processor without AVX512, and without the layout, as on a machine
    that has none.
    """
    if request.param == "plain":
        monkeypatch.setattr(projections, "_pack", lambda weights: None)
    if request.param == "packed without AVX512":
        monkeypatch.setattr(torch.ops, "mkldnn", WithoutBfloat16(torch.ops.mkldnn))


@pytest.mark.parametrize("biases", [(False, False), (True, True), (False, True)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.no_grad()
def test_layers_side_by_side(packing: None, dtype: torch.dtype, biases: tuple[bool, bool]) -> None:
    layers = [nn.Linear(6, width, bias=bias) for width, bias in zip((5, 3), biases, strict=True)]
    x = torch.randn(4, 6)
    found = Projection(layers, dtype)(x)
    wanted = torch.cat([layer(x) for layer in layers], -1)
    assert found.dtype == dtype
    torch.testing.assert_close(
        found.float(), wanted, **({"atol": 0.03, "rtol": 0.0} if dtype == torch.bfloat16 else {})
    )


@torch.no_grad()
def test_adapters_that_are_switched_on_count(packing: None) -> None:
    module = nn.ModuleDict({"one": nn.Linear(6, 5), "two": nn.Linear(6, 3, bias=False)})
    inject_adapter_in_model(LoraConfig(r=2, lora_alpha=4, target_modules=["one"]), module)
    layer = module["one"]
    layer.lora_B["default"].weight.normal_()
    x = torch.randn(4, 6)
    for _ in ("on", "updated"):
        found = Projection([layer, module["two"]], torch.float32)(x)
        torch.testing.assert_close(found, torch.cat((layer(x), module["two"](x)), -1))
        layer.lora_A["default"].weight.mul_(-2)
    layer.enable_adapters(False)
    assert merged_weight(layer) is layer.get_base_layer().weight
    torch.testing.assert_close(Projection([layer], torch.float32)(x), layer.get_base_layer()(x))
    layer.enable_adapters(True)
    layer.merge()
    torch.testing.assert_close(Projection([layer], torch.float32)(x), layer(x))


@torch.no_grad()
def test_small_adapters_on_bfloat16_weights_are_added_before_rounding() -> None:
    module = nn.ModuleDict({"one": nn.Linear(6, 5, bias=False).to(torch.bfloat16)})
    inject_adapter_in_model(LoraConfig(r=2, lora_alpha=4, target_modules=["one"]), module)
    layer = module["one"].float()
    layer.base_layer.to(torch.bfloat16)
    layer.lora_B["default"].weight.normal_(std=1e-4)
    assert merged_weight(layer).dtype == torch.float32
    assert not torch.equal(merged_weight(layer), layer.base_layer.weight.float())
