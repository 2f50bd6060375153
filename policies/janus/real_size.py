"""Checkpoints of random weights in the published layout, at the published sizes or any other.

They are what a machine without the real weights can measure: sizes, names, number formats, shards and the
tokenizer's ids are those of Janus-Pro, and only the numbers are random. `write` makes one tensor at a time.
"""

from __future__ import annotations

import itertools
import json
import math
import re
import string
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from torch import Tensor
from transformers import JanusForConditionalGeneration

from harness.chain import END
from harness.protocols import RealSize
from policies.janus import original, text, vq
from policies.janus.folder import CONFIG

SHARD_BYTES = 2**30
SHORT = 4  # decoder layers of the model whose weights are all trained
INDEX = "model.safetensors.index.json"
STD = 0.02  # of weights, as before Llama's training
UNUSED_CODES = 65536  # entries of a counter that is in the files and never read
SPECIAL_AT = {  # places of the special tokens behind the base vocabulary; that of padding differs by size
    text.BOS: 0,
    text.EOS: 1,
    "<|User|>": 4,
    "<|Assistant|>": 5,
    END: 16,
    text.IMAGE_PLACEHOLDER: 581,
    "<end_of_image>": 593,
}
# native names to published ones: the inverse of `policies.janus.original`
PUBLISHED_NAMES = tuple(
    (re.compile(pattern), name)
    for pattern, name in (
        (r"^model\.language_model\.", "language_model.model."),
        (r"^lm_head\.", "language_model.lm_head."),
        (r"^model\.vision_model\.embeddings\.position_embedding\.weight$", original.POSITIONS),
        (
            r"^model\.vision_model\.embeddings\.patch_embedding\.",
            "vision_model.vision_tower.patch_embed.proj.",
        ),
        (r"^model\.vision_model\.post_layernorm\.", "vision_model.vision_tower.norm."),
        (
            r"^model\.vision_model\.encoder\.layers\.(\d+)\.layer_norm",
            r"vision_model.vision_tower.blocks.\1.norm",
        ),
        (r"^model\.vision_model\.encoder\.layers\.(\d+)\.mlp", r"vision_model.vision_tower.blocks.\1.mlp"),
        (
            r"^model\.vision_model\.encoder\.layers\.(\d+)\.self_attn\.projection_layer\.",
            r"vision_model.vision_tower.blocks.\1.attn.proj.",
        ),
        (
            r"^model\.vision_model\.encoder\.layers\.(\d+)\.self_attn\.q_proj\.",
            r"vision_model.vision_tower.blocks.\1.attn.qkv.",
        ),
        (r"^model\.generation_embeddings\.", "gen_embed."),
        (r"^model\.generation_head\.proj_out\.", "gen_head.output_mlp_projector."),
        (r"^model\.generation_head\.vision_head\.", "gen_head.vision_head."),
        (r"^model\.generation_aligner\.", "gen_aligner."),
        (r"^model\.vqmodel\.", "gen_vision_model."),
        (r"^model\.aligner\.", "aligner."),
        (r"^((?:gen_)?aligner)\.fc1\.", r"\1.layers.0."),
        (r"^((?:gen_)?aligner)\.hidden_layers\.0\.", r"\1.layers.2."),
        (r"^(gen_vision_model\.encoder)\.down\.(\d+)\.", r"\1.conv_blocks.\2."),
        (r"^(gen_vision_model\.decoder)\.up\.(\d+)\.", r"\1.conv_blocks.\2."),
        (r"^(gen_vision_model\.\w+\.conv_blocks\.\d+)\.block\.", r"\1.res."),
        (r"^(gen_vision_model\.\w+\.mid)\.block_1\.", r"\1.0."),
        (r"^(gen_vision_model\.\w+\.mid)\.attn_1\.", r"\1.1."),
        (r"^(gen_vision_model\.\w+\.mid)\.block_2\.", r"\1.2."),
    )
)


@dataclass(frozen=True, kw_only=True)
class Size:
    """The sizes of a Janus. 1B and 7B have the same image tokenizer and reading tower."""

    name: str
    hidden: int
    inner: int
    layers: int
    heads: int
    base: int = 100_000
    """Ids of the text tokenizer without special tokens."""
    vocabulary: int = 102_400
    """Rows of the embedding."""
    pad: int
    """Place of the padding token behind the base vocabulary."""
    codes: int = 16384
    side: int = 24
    vq: Mapping[str, Any] | None = None
    """`x_vq` of config.json, for an image tokenizer of other sizes; None: the published one."""
    siglip: Mapping[str, Any] | None = None
    """`x_siglip` of config.json, likewise."""

    @property
    def image_size(self) -> int:
        """Pixels of a side of an image."""
        levels: Sequence[int] = {**original.VQ, **(self.vq or {})}["ch_mult"]
        return self.side * 2 ** (len(levels) - 1)


ONE_B = Size(name="1B", hidden=2048, inner=5632, layers=24, heads=16, pad=2)
SEVEN_B = Size(name="7B", hidden=4096, inner=11008, layers=30, heads=32, pad=15)


def write(folder: Path, size: Size, dtype: torch.dtype = torch.bfloat16, seed: int = 0) -> None:
    """Writes a checkpoint of random weights in the published layout: config, tokenizer, shards, index.

    Args:
        folder: is made.
        size: of the model.
        dtype: of all weights in the files.
        seed: of the weights.

    Raises:
        OSError: the disk has no room.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = published_config(size, dtype)
    (folder / CONFIG).write_text(json.dumps(config, indent=1), encoding="utf-8")
    tokenizer = _tokenizer(size)
    text.save(tokenizer, folder)
    shards: list[list[str]] = []
    total = 0
    tensors: dict[str, Tensor] = {}
    for name, shape in shapes(config).items():
        tensor = _random(name, shape, dtype, seed)
        if tensors and sum(value.nbytes for value in tensors.values()) + tensor.nbytes > SHARD_BYTES:
            shards.append(_save(folder, len(shards), tensors))
            tensors = {}
        tensors[name] = tensor
        total += tensor.nbytes
    shards.append(_save(folder, len(shards), tensors))
    names = {}
    for number, keys in enumerate(shards):
        file = f"model-{number + 1:05}-of-{len(shards):05}.safetensors"
        (folder / _unnumbered(number)).rename(folder / file)
        names.update(dict.fromkeys(keys, file))
    index = {"metadata": {"total_size": total}, "weight_map": names}
    (folder / INDEX).write_text(json.dumps(index, indent=1), encoding="utf-8")


def real_sizes() -> list[RealSize]:
    """The models of `harness.bench real_size`.

    All weights of a 1B, their gradients and AdamW's state take 33 GB in float32, so SFT has a shortened one.
    """
    half = "policies.weights=bfloat16"
    short = replace(ONE_B, name=f"1B of {SHORT} layers", layers=SHORT)
    return [
        model(ONE_B, ("load", "draw", "grpo"), "preset=paper_1b", half),
        model(short, ("sft",), "preset=paper_1b"),
        model(SEVEN_B, ("load", "chain"), "preset=paper_7b", half),
    ]


def model(size: Size, parts: Sequence[Any], *words: str) -> RealSize:
    count = sum(math.prod(shape) for shape in shapes(published_config(size, torch.bfloat16)).values())
    codes = tuple(number % size.codes for number in range(size.side**2))
    return RealSize(
        name=size.name,
        write=partial(write, size=size),
        disk_bytes=count * torch.bfloat16.itemsize,
        words=words,
        parts=parts,
        decode=partial(_decode, codes=codes),
    )


def _decode(policy: Any, codes: tuple[int, ...]) -> None:
    vq.decode(policy.module.model.vqmodel, [codes])


def shapes(config: Mapping[str, Any]) -> dict[str, torch.Size]:
    """Name and shape of every weight of a published config.json, those that Janus never uses included."""
    with init_empty_weights():
        model = JanusForConditionalGeneration(original.config(config))
    found = {}
    for native, value in model.state_dict().items():
        if re.search(r"vision_model.*\.self_attn\.[kv]_proj\.", native):
            continue
        name, shape = published_name(native), value.shape
        if name.endswith(("attn.qkv.weight", "attn.qkv.bias")):
            shape = torch.Size((3 * shape[0], *shape[1:]))
        elif name == original.POSITIONS:
            shape = torch.Size((1, *shape))
        found[name] = shape
    found["gen_vision_model.quantize.codebook_used"] = torch.Size((UNUSED_CODES,))
    vision = model.config.vision_config
    return {**found, **_attention_pool(vision.hidden_size, int(vision.hidden_size * vision.mlp_ratio))}


def published_name(native: str) -> str:
    """The published name of a weight; that of a fused q, k and v for q."""
    for pattern, name in PUBLISHED_NAMES:
        native = pattern.sub(name, native)
    return native


def _attention_pool(width: int, inner: int) -> dict[str, torch.Size]:
    """The reading tower's attention pool, which is in the files and never runs."""
    outputs = {
        "q": (width, width),
        "kv": (2 * width, width),
        "proj": (width, width),
        "mlp.fc1": (inner, width),
        "mlp.fc2": (width, inner),
        "norm": (width,),
    }
    prefix = "vision_model.vision_tower.attn_pool"
    found = {f"{prefix}.latent": torch.Size((1, 1, width))}
    for name, shape in outputs.items():
        found[f"{prefix}.{name}.weight"] = torch.Size(shape)
        found[f"{prefix}.{name}.bias"] = torch.Size(shape[:1])
    return found


def _random(name: str, shape: torch.Size, dtype: torch.dtype, seed: int) -> Tensor:
    """A weight as before training: norms 1, biases 0, others normal."""
    if name.endswith(".bias"):
        return torch.zeros(shape, dtype=dtype)
    if len(shape) == 1:
        return torch.ones(shape, dtype=dtype)
    generator = torch.Generator().manual_seed(seed + zlib.crc32(name.encode()))
    return torch.empty(shape, dtype=dtype).normal_(std=STD, generator=generator)


def _save(folder: Path, number: int, tensors: dict[str, Tensor]) -> list[str]:
    save_file(tensors, folder / _unnumbered(number), metadata={"format": "pt"})
    return list(tensors)


def _unnumbered(number: int) -> str:
    """A shard while their count is not known."""
    return f"shard-{number}.part"


def published_config(size: Size, dtype: torch.dtype) -> dict[str, Any]:
    vision: dict[str, Any] = {
        "image_size": size.image_size,
        "model_name": original.SIGLIP_NAME,
        "select_feature": "same",
        "select_layer": -1,
    }
    image: dict[str, Any] = {"image_token_size": size.codes, "n_embed": 8}
    if size.siglip is not None:
        vision["x_siglip"] = dict(size.siglip)
    if size.vq is not None:
        image["x_vq"] = dict(size.vq)
    width = {**original.SIGLIP, **(size.siglip or {})}["width"]
    aligner = {"depth": 2, "n_embed": size.hidden, "projector_type": "mlp_gelu"}
    head = {"image_token_embed": size.hidden, "image_token_size": size.codes, "n_embed": size.hidden}
    return {
        "architectures": ["MultiModalityCausalLM"],
        "model_type": "multi_modality",
        "torch_dtype": str(dtype).removeprefix("torch."),
        "vision_config": {"cls": "CLIPVisionTower", "model_type": "vision", "params": vision},
        "aligner_config": {
            "cls": "MlpProjector",
            "model_type": "aligner",
            "params": {**aligner, "input_dim": width},
        },
        "gen_vision_config": {"cls": "VQ-16", "model_type": "gen_vision", "params": image},
        "gen_aligner_config": {
            "cls": "MlpProjector",
            "model_type": "gen_aligner",
            "params": {**aligner, "input_dim": 8},
        },
        "gen_head_config": {"cls": "vision_head", "model_type": "gen_head", "params": head},
        "language_config": {
            "model_type": "llama",
            "hidden_size": size.hidden,
            "intermediate_size": size.inner,
            "num_hidden_layers": size.layers,
            "num_attention_heads": size.heads,
            "num_key_value_heads": size.heads,
            "max_position_embeddings": 16384,
            "vocab_size": size.vocabulary,
            "torch_dtype": str(dtype).removeprefix("torch."),
        },
    }


def _tokenizer(size: Size) -> Tokenizer:
    """A byte-level BPE of `size.base` ids, and special tokens behind them at the published places.

    Its merges join letters to groups of two and three in alphabetical order.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = list(itertools.islice(_merges(), size.base - len(alphabet)))
    vocabulary = dict.fromkeys([*alphabet, *("".join(pair) for pair in merges)])
    if len(vocabulary) != size.base:
        raise ValueError(f"base={size.base}: give a number from {len(alphabet)} to {len(vocabulary)}")
    ids = {token: number for number, token in enumerate(vocabulary)}
    tokenizer = Tokenizer(BPE(vocab=ids, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    places = {place: token for token, place in {**SPECIAL_AT, text.PAD: size.pad}.items()}
    behind = [places.get(place, f"<｜place▁holder▁{place}｜>") for place in range(max(places) + 1)]
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in behind])
    return tokenizer


def _merges() -> Iterator[tuple[str, str]]:
    """Pairs to join: of letters (and of a space, which is Ġ, with one), then of such pairs with a letter."""
    letters = string.ascii_lowercase + string.ascii_uppercase
    pairs = list(itertools.product("Ġ" + letters, letters))
    yield from pairs
    for (first, second), third in itertools.product(pairs, letters):
        yield first + second, third
