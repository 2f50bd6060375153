"""Low-rank adapters through peft: put in, switched off for the reference, merged for saving."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.tuners_utils import BaseTunerLayer


def add(module: torch.nn.Module, *, rank: int, alpha: int, targets: str) -> None:
    """Freezes `module` and adds adapters to the linear layers that it trained so far and whose full name matches `targets`.

    Raises:
        ValueError: the expression matches none of them.
    """
    layers = [name for name, layer in module.named_modules() if isinstance(layer, torch.nn.Linear) and layer.weight.requires_grad]
    chosen = [name for name in layers if re.fullmatch(targets, name)]
    if not chosen:
        raise ValueError(
            f"grpo.lora.targets={targets!r} matches no trained linear layer: give a regular expression for whole names"
            f" such as {layers[len(layers) // 2]} or {layers[-1]}"
        )
    module.requires_grad_(False)
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=alpha, target_modules="|".join(map(re.escape, chosen))), module)


def _layers(module: torch.nn.Module) -> list[tuple[str, BaseTunerLayer]]:
    return [(name, layer) for name, layer in module.named_modules() if isinstance(layer, BaseTunerLayer)]


@contextmanager
def switched_off(module: torch.nn.Module) -> Iterator[None]:
    for _, layer in _layers(module):
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for _, layer in _layers(module):
            layer.enable_adapters(True)


def merge(module: torch.nn.Module) -> None:
    """Folds the adapters into the weights and puts the plain layers back."""
    for name, layer in _layers(module):
        layer.merge()
        parent, _, child = name.rpartition(".")
        setattr(module.get_submodule(parent), child, layer.get_base_layer())
