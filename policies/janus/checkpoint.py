"""Checkpoint folders to models and back. Reads both layouts, writes transformers', checks every weight.

transformers' own `from_pretrained` is not used: it reads one of the layouts, ties lm_head to the embedding
unless a configuration forbids it, and initializes missing weights at random.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from itertools import combinations
from pathlib import Path

import torch
from accelerate import init_empty_weights
from torch import Tensor
from transformers import JanusConfig, JanusForConditionalGeneration

from policies.janus import folder as folders
from policies.janus import original
from policies.janus.folder import REMEDY, CheckpointFolder
from policies.janus.weights import read as read_tensors

FLOAT32 = "model.vqmodel."  # small, and its pixels must be exact


@torch.no_grad()
def load(
    folder: Path, dtype: torch.dtype = torch.float32, device: str = "cpu"
) -> JanusForConditionalGeneration:
    """The model of a checkpoint folder, in evaluation mode.

    Weights are in `dtype`, except those of the image tokenizer, which are in float32. Each weight moves to
    `device` as it is read, so that memory never holds the model twice.

    Raises:
        ValueError: the folder is missing, damaged or of another model. The message says what to do.
    """
    source = folders.read(Path(folder))
    model = _empty(source)
    shapes = {}
    for file in source.weights:
        shapes.update({name: value.shape for name, value in _native(source, file)})
    _check(source, model, shapes)
    for file in source.weights:
        weights = {}
        for name, value in _native(source, file):
            weight_dtype = torch.float32 if name.startswith(FLOAT32) else dtype
            weights[name] = value.to(device, weight_dtype, copy=True)
        model.load_state_dict(weights, strict=False, assign=True)
    return model.to(device).eval()


def save(model: JanusForConditionalGeneration, folder: Path) -> None:
    """Writes config and safetensors in transformers' layout; the caller adds the tokenizer."""
    model.save_pretrained(folder, safe_serialization=True)


def _empty(source: CheckpointFolder) -> JanusForConditionalGeneration:
    """The model without memory for its weights."""
    try:
        config = original.config(source.config) if source.original else JanusConfig.from_dict(source.config)
        config.tie_word_embeddings = config.text_config.tie_word_embeddings = False
        with init_empty_weights():
            return JanusForConditionalGeneration(config)
    except Exception as error:  # a wrong value may trip anything
        raise ValueError(
            f"{source.path / folders.CONFIG} does not describe a Janus ({error}): {REMEDY}"
        ) from error


def _native(source: CheckpointFolder, file: Path) -> Iterator[tuple[str, Tensor]]:
    """The weights of a file under transformers' names."""
    for name, tensor in read_tensors(file):
        if source.original:
            yield from original.native(name, tensor).items()
        else:
            yield name, tensor


def _check(
    source: CheckpointFolder, model: JanusForConditionalGeneration, shapes: dict[str, torch.Size]
) -> None:
    """Compares names and shapes of the checkpoint's weights with those of the model.

    Raises:
        ValueError: they differ.
    """
    wanted = {name: value.shape for name, value in model.state_dict().items()}
    missing, misshapen = [], []
    for name, shape in wanted.items():
        if name not in shapes:
            missing.append(name)
        elif shapes[name] != shape:
            misshapen.append(f"{name} ({list(shapes[name])}, allowed is {list(shape)})")
    unknown = [name for name in shapes if name not in wanted]
    faults = {"missing": missing, "of another shape": misshapen, "unknown to Janus": unknown}
    texts = [
        f"{len(names)} weights are {fault}, first {names[0]}" for fault, names in faults.items() if names
    ]
    if texts:
        remedy = _wrapper_hint(source, unknown, wanted) or REMEDY
        raise ValueError(f"{source.path} is not a whole Janus checkpoint: {'; '.join(texts)}: {remedy}")


def _wrapper_hint(source: CheckpointFolder, unknown: Sequence[str], wanted: Collection[str]) -> str:
    """What to do where a wrapper (torch.compile, DDP, FSDP, PEFT) has put its name into those of weights.

    Empty where no unknown name is one of Janus without it.
    """
    known: Counter[str] = Counter()
    for name in unknown:
        parts = name.split(".")
        for start, end in combinations(range(len(parts)), 2):
            inner = ".".join([*parts[:start], *parts[end:]])
            if (original.rename(inner) if source.original else inner) in wanted:
                known[".".join(parts[start:end]) + "."] += 1
    if not known:
        return ""
    (wrapper, _), *_ = known.most_common(1)
    merged = ""
    if any("lora_" in name for name in unknown):
        merged = " first merge its LoRA adapters (PEFT: merge_and_unload()), then"
    return (
        f"the names hold {wrapper!r}, as those of a wrapped model do:{merged} save the weights again"
        f" without this prefix, name.replace({wrapper!r}, '')"
    )
