"""Checkpoint folders to models, and back: both layouts in, transformers' out, every weight accounted for.

transformers' own `from_pretrained` is not used: it reads one of the layouts, ties lm_head to the embedding where a
configuration does not forbid it, and draws weights that are missing at random.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from accelerate import init_empty_weights
from torch import Tensor
from transformers import JanusConfig, JanusForConditionalGeneration

from policies.janus import folder as folders
from policies.janus import original, weights
from policies.janus.folder import REMEDY, CheckpointFolder

FLOAT32 = "model.vqmodel."  # small, and its pixels are to be exact


@torch.no_grad()
def load(
    folder: Path, dtype: torch.dtype = torch.float32, device: str = "cpu"
) -> JanusForConditionalGeneration:
    """The model of a checkpoint folder in evaluation mode; weights in `dtype`, those of the image tokenizer in float32.

    Each weight goes to `device` as it is read, so that the model is there once and no second time on the way.

    Raises:
        ValueError: the folder is missing, damaged or of another model; names what is wrong and says what to do.
    """
    found = folders.read(Path(folder))
    model = _empty(found)
    _check(
        found.path,
        model,
        {name: value.shape for file in found.weights for name, value in _native(found, file)},
    )
    for file in found.weights:
        placed = {
            name: value.to(device, torch.float32 if name.startswith(FLOAT32) else dtype, copy=True)
            for name, value in _native(found, file)
        }
        model.load_state_dict(placed, strict=False, assign=True)
    return model.to(device).eval()


def save(model: JanusForConditionalGeneration, folder: Path) -> None:
    """Writes config and safetensors in transformers' layout; the caller adds the tokenizer."""
    model.save_pretrained(folder, safe_serialization=True)


def _empty(found: CheckpointFolder) -> JanusForConditionalGeneration:
    """The model without memory for its weights."""
    try:
        config = original.config(found.config) if found.original else JanusConfig.from_dict(found.config)
        config.tie_word_embeddings = config.text_config.tie_word_embeddings = False
        with init_empty_weights():
            return JanusForConditionalGeneration(config)
    except Exception as error:  # a wrong value may trip anything
        raise ValueError(
            f"{found.path / folders.CONFIG} does not describe a Janus ({error}): {REMEDY}"
        ) from error


def _native(found: CheckpointFolder, file: Path) -> Iterator[tuple[str, Tensor]]:
    """The weights of a file under transformers' names."""
    for name, tensor in weights.read(file):
        yield from (original.native(name, tensor) if found.original else {name: tensor}).items()


def _check(path: Path, model: JanusForConditionalGeneration, given: dict[str, torch.Size]) -> None:
    """Refuses weights that are not those of the model, name by name and shape by shape."""
    wanted = {name: value.shape for name, value in model.state_dict().items()}
    shapes = {
        name: (list(given[name]), list(shape))
        for name, shape in wanted.items()
        if given.get(name, shape) != shape
    }
    faults = {
        "missing": [name for name in wanted if name not in given],
        "of another shape": [
            f"{name} ({ours}, allowed is {theirs})" for name, (ours, theirs) in shapes.items()
        ],
        "unknown to Janus": [name for name in given if name not in wanted],
    }
    said = [f"{len(names)} weights are {fault}, first {names[0]}" for fault, names in faults.items() if names]
    if said:
        raise ValueError(f"{path} is not a whole Janus checkpoint: {'; '.join(said)}: {REMEDY}")
