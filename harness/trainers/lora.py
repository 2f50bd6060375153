"""Low-rank adapters through peft: put in, switched off for the reference, merged for saving."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.tuners_utils import BaseTunerLayer


def add(module: torch.nn.Module, *, rank: int, alpha: float, targets: str) -> None:
    """Freezes `module` and adds trainable adapters to the linear layers whose full name matches `targets`."""
    module.requires_grad_(False)
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=alpha, target_modules=targets), module)


def _layers(module: torch.nn.Module) -> list[BaseTunerLayer]:
    return [layer for layer in module.modules() if isinstance(layer, BaseTunerLayer)]


@contextmanager
def switched_off(module: torch.nn.Module) -> Iterator[None]:
    for layer in _layers(module):
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in _layers(module):
            layer.enable_adapters(True)


def merge(module: torch.nn.Module) -> None:
    """Folds the adapters into the weights and puts the plain layers back."""
    for name, layer in [(name, layer) for name, layer in module.named_modules() if isinstance(layer, BaseTunerLayer)]:
        layer.merge()
        parent, _, child = name.rpartition(".")
        setattr(module.get_submodule(parent), child, layer.get_base_layer())
