"""Checkpoint folders to models and back. Reads both layouts, writes transformers', checks every weight.

transformers' own `from_pretrained` is not used: it reads one of the layouts, ties lm_head to the embedding
unless a configuration forbids it, and initializes missing weights at random.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path

import torch
from accelerate import init_empty_weights
from torch import Tensor, nn
from transformers import JanusConfig, JanusForConditionalGeneration

from policies.janus import folder as folders
from policies.janus import original
from policies.janus.folder import REMEDY, CheckpointFolder
from policies.janus.weights import read as read_tensors
from policies.janus.weights import read_one

FLOAT32 = "model.vqmodel."  # small, and its pixels must be exact
# linear layers that a rollout lays out for speed; all but those of the image inputs, which it calls
STORED = ("model.language_model.layers.", "lm_head", "model.generation_head.")


@dataclass(frozen=True)
class Place:
    """A tensor of a weight file, and the shape that it has in the model."""

    file: Path
    name: str
    shape: torch.Size


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
    _check(source, model, _places(source))
    return _filled(source, model, dtype, device)


@torch.no_grad()
def load_to_draw(
    folder: Path, dtype: torch.dtype = torch.float32, device: str = "cpu"
) -> JanusForConditionalGeneration:
    """As `load`, without what reads images, and with the large linear layers left in their files.

    A layer in a file (`StoredLinear`) reads its weight whenever it is asked for. A rollout asks once, to lay
    it out, so memory never holds the plain weights.

    Raises:
        ValueError: as `load`.
    """
    source = folders.read(Path(folder))
    model = _empty(source)
    places = _places(source)
    _check(source, model, places)
    model.model.vision_model = model.model.aligner = None
    model.model.vqmodel.encoder = model.model.vqmodel.quant_conv = None
    for name, layer in list(model.named_modules()):
        if isinstance(layer, nn.Linear) and name.startswith(STORED):
            weight = partial(_read, places[f"{name}.weight"], dtype, device)
            bias = None if layer.bias is None else partial(_read, places[f"{name}.bias"], dtype, device)
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, StoredLinear(layer.out_features, weight, bias))
    return _filled(source, model, dtype, device)


class StoredLinear(nn.Module):
    """A linear layer whose weight and bias are read from a file whenever they are asked for."""

    def __init__(
        self, out_features: int, weight: Callable[[], Tensor], bias: Callable[[], Tensor] | None
    ) -> None:
        super().__init__()
        self.out_features = out_features
        self._weight, self._bias = weight, bias

    @property
    def weight(self) -> Tensor:
        return self._weight()

    @property
    def bias(self) -> Tensor | None:
        return None if self._bias is None else self._bias()


def _filled(
    source: CheckpointFolder, model: JanusForConditionalGeneration, dtype: torch.dtype, device: str
) -> JanusForConditionalGeneration:
    """The model with all its weights from the files; weights that it lacks are not read."""
    wanted = model.state_dict().keys()
    for file in source.weights:
        weights = {}
        for name, value in _native(source, file):
            if name in wanted:
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


def _places(source: CheckpointFolder) -> dict[str, Place]:
    """Where each weight lies, under transformers' names."""
    places = {}
    for file in source.weights:
        for stored, tensor in read_tensors(file):
            natives = original.native(stored, tensor) if source.original else {stored: tensor}
            for name, value in natives.items():
                places[name] = Place(file, stored, value.shape)
    return places


def _read(place: Place, dtype: torch.dtype, device: str) -> Tensor:
    return read_one(place.file, place.name).to(device, dtype)


def _check(source: CheckpointFolder, model: JanusForConditionalGeneration, places: dict[str, Place]) -> None:
    """Compares names and shapes of the checkpoint's weights with those of the model.

    Raises:
        ValueError: they differ.
    """
    wanted = {name: value.shape for name, value in model.state_dict().items()}
    missing, misshapen = [], []
    for name, shape in wanted.items():
        if name not in places:
            missing.append(name)
        elif places[name].shape != shape:
            misshapen.append(f"{name} ({list(places[name].shape)}, allowed is {list(shape)})")
    unknown = [name for name in places if name not in wanted]
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
