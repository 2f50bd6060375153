"""Low-rank adapters through peft: put in, switched off for the reference, written, merged for saving."""

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
    """Freezes `module` and adds adapters to the linear layers that it trained so far and whose full name matches `targets`.

    The adapters are float32 whatever the layers are: steps of 1e-5 would be lost in bfloat16.

    Raises:
        ValueError: the expression matches none of them.
    """
    layers = [
        name
        for name, layer in module.named_modules()
        if isinstance(layer, torch.nn.Linear) and layer.weight.requires_grad
    ]
    chosen = [name for name in layers if re.fullmatch(targets, name)]
    if not chosen:
        raise ValueError(
            f"grpo.lora.targets={targets!r} matches no trained linear layer: give a regular expression for whole names"
            f" such as {layers[len(layers) // 2]} or {layers[-1]}"
        )
    module.requires_grad_(False)
    inject_adapter_in_model(
        LoraConfig(r=rank, lora_alpha=alpha, target_modules="|".join(map(re.escape, chosen))), module
    )
    for adapter in (parameter for parameter in module.parameters() if parameter.requires_grad):
        adapter.data = adapter.data.float()


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
    """Writes the adapters in peft's own format, for `peft.PeftModel.from_pretrained(base, folder)`.

    The folder must not be the checkpoint's own: transformers puts adapters it finds beside weights on top of
    them, and the weights of our checkpoints already hold them.
    """
    config: LoraConfig = vars(module)["peft_config"]["default"]
    folder.mkdir(parents=True, exist_ok=True)
    replace(config, inference_mode=True).save_pretrained(str(folder))
    adapters = get_peft_model_state_dict(
        module, save_embedding_layers=False
    )  # lm_head's name alone would make peft add its weights
    named = {
        f"base_model.model.{name}": value.contiguous() for name, value in adapters.items()
    }  # as they are inside a PeftModel
    save_file(named, folder / "adapter_model.safetensors", metadata={"format": "pt"})


def merge(module: torch.nn.Module) -> None:
    """Folds the adapters into the weights, added up in float32 and rounded to the weights' dtype, and puts the plain layers back."""
    for name, layer in _layers(module):
        layer.merge()
        parent, _, child = name.rpartition(".")
        setattr(module.get_submodule(parent), child, layer.get_base_layer())
    del module.peft_config
