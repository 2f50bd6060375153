"""Low-rank adapters through peft: add them, switch them off for the reference, write and merge them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model_state_dict, inject_adapter_in_model
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import save_file


def add(module: torch.nn.Module, *, rank: int, alpha: int, targets: str) -> None:
    """Freezes `module` and adds adapters to its trained linear layers whose full name matches `targets`.

    Adapters are float32, whatever the dtype of the layers: bfloat16 would lose steps of 1e-5.

    Raises:
        ValueError: the expression matches no trained linear layer.
    """
    layers = [
        name
        for name, layer in module.named_modules()
        if isinstance(layer, torch.nn.Linear) and layer.weight.requires_grad
    ]
    chosen = [name for name in layers if re.fullmatch(targets, name)]
    if not chosen:
        raise ValueError(
            f"lora.targets={targets!r} matches no trained linear layer: give a regular expression for"
            f" whole names such as {layers[len(layers) // 2]} or {layers[-1]}"
        )
    module.requires_grad_(False)
    exact_names = "|".join(map(re.escape, chosen))
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=alpha, target_modules=exact_names), module)
    for parameter in module.parameters():
        if parameter.requires_grad:  # only the adapters do
            parameter.data = parameter.data.float()


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


def write(module: torch.nn.Module, folder: Path) -> None:
    """Writes the adapters in peft's format, for `peft.PeftModel.from_pretrained(base, folder)`.

    The folder must not be the checkpoint's own: transformers applies adapters that lie beside weights, and
    the weights of our checkpoints already include them.
    """
    config: LoraConfig = vars(module)["peft_config"]["default"]
    folder.mkdir(parents=True, exist_ok=True)
    replace(config, inference_mode=True).save_pretrained(str(folder))
    # without the argument peft would add the weights of lm_head, because of its name
    adapters = get_peft_model_state_dict(module, save_embedding_layers=False)
    names_in_peft_model = {f"base_model.model.{name}": value.contiguous() for name, value in adapters.items()}
    save_file(names_in_peft_model, folder / "adapter_model.safetensors", metadata={"format": "pt"})


def merge(module: torch.nn.Module) -> None:
    """Folds the adapters into the weights and restores the plain layers.

    The sums are float32, then rounded to the weights' dtype.
    """
    for name, layer in _layers(module):
        layer.merge()
        parent, _, child = name.rpartition(".")
        setattr(module.get_submodule(parent), child, layer.get_base_layer())
    del module.peft_config
