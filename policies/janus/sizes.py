"""How large a Janus is, from the numbers in its config.json or the settings it is to be made with; without torch.

Parameters are counted as transformers' classes hold them (a test compares with real models and with the
published totals: 2089.2 M for the 1B and 7420.4 M for the 7B, attention pool of the reading tower and 7B's wider
parts included).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.protocols import ModelSizes

if TYPE_CHECKING:
    from policies.janus.recipe import Janus, TinyJanus

PUBLISHED = {  # Janus-Pro and GoT-R1, by the billions in their name
    "1": {
        "hidden_size": 2048,
        "intermediate_size": 5632,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "vocab_size": 102400,
    },
    "7": {"num_hidden_layers": 30, "vocab_size": 102400},
}
SIZE_IN_NAME = re.compile(r"(?<![\d.])([17])b(?![a-z])", re.IGNORECASE)
PRODUCTS = {"float32": 4, "bfloat16": 2, "auto": None}
WEIGHTS = {"float32": 4, "bfloat16": 2}
LOGITS = 2**25  # policies.janus.heads makes so many at a time
IMAGES, PIXELS = 64, 2**20  # policies.janus.vq decodes so many at a time
DECODE_COPIES = 5  # of the decoder's widest activation that are held at once, by its norms and convolutions


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """The VQ model; `patch` pixels a token on each side."""

    side: int
    codes: int
    embed: int
    latent: int
    base: int
    multiplier: Sequence[int]
    blocks: int

    @property
    def patch(self) -> int:
        return 2 ** (len(self.multiplier) - 1)

    def parameters(self) -> int:
        first, last = self.base, self.base * self.multiplier[-1]
        down = sum(
            self._level(self.base * before, self.base * after, self.blocks, level == len(self.multiplier) - 1)
            for level, (before, after) in enumerate(zip((1, *self.multiplier), self.multiplier, strict=False))
        ) + sum(_conv(self.base * one, self.base * one) for one in self.multiplier[:-1])
        encoder = _conv(3, first) + down + self._middle(last) + _norm(last) + _conv(last, self.latent)
        reverse = tuple(reversed(self.multiplier))
        up = sum(
            self._level(self.base * before, self.base * after, self.blocks + 1, level == 0)
            for level, (before, after) in enumerate(zip((reverse[0], *reverse), reverse, strict=False))
        ) + sum(_conv(self.base * one, self.base * one) for one in reverse[:-1])
        decoder = (
            _conv(self.latent, last)
            + self._middle(last)
            + up
            + _norm(first * reverse[-1])
            + _conv(first * reverse[-1], 3)
        )
        around = (
            self.codes * self.embed + _conv(self.latent, self.embed, 1) + _conv(self.embed, self.latent, 1)
        )
        return encoder + decoder + around

    def _level(self, before: int, after: int, count: int, attends: bool) -> int:
        resnets = sum(_resnet(before if one == 0 else after, after) for one in range(count))
        return resnets + attends * count * _attention(after)

    def _middle(self, width: int) -> int:
        return 2 * _resnet(width, width) + _attention(width)

    def decode_bytes(self) -> int:
        """Of one image, in float32 at the full size, where the decoder's activations are largest."""
        pixels = (self.side * self.patch) ** 2
        return DECODE_COPIES * 4 * pixels * self.base * self.multiplier[0]


def _conv(inputs: int, outputs: int, kernel: int = 3) -> int:
    return outputs * (inputs * kernel**2 + 1)


def _norm(width: int) -> int:
    return 2 * width


def _resnet(before: int, after: int) -> int:
    shortcut = _conv(before, after, 1) if before != after else 0
    return _norm(before) + _conv(before, after) + _norm(after) + _conv(after, after) + shortcut


def _attention(width: int) -> int:
    return _norm(width) + 4 * _conv(width, width, 1)


@dataclass(frozen=True, kw_only=True)
class Reading:
    """The SigLIP tower and its aligner; it takes no part in drawing."""

    width: int = 1024
    layers: int = 24
    image_size: int = 384
    patch_size: int = 16
    mlp_ratio: float = 4
    depth: int = 2

    def parameters(self) -> int:
        inner = int(self.width * self.mlp_ratio)
        block = (
            2 * _norm(self.width)
            + 4 * _linear(self.width, self.width)
            + _linear(self.width, inner)
            + _linear(inner, self.width)
        )
        positions = (self.image_size // self.patch_size) ** 2 * self.width
        return _conv(3, self.width, self.patch_size) + positions + self.layers * block + _norm(self.width)


def _linear(inputs: int, outputs: int) -> int:
    return outputs * (inputs + 1)


def of_janus(recipe: Janus, folder: Path | None) -> ModelSizes | None:
    """Sizes of the checkpoint of `policies=janus`; see `of`."""
    return of(folder, recipe.checkpoint, recipe.settings)


def of_tiny_janus(recipe: TinyJanus, folder: Path | None) -> ModelSizes:
    """Sizes of the model that `policies=tiny_janus` makes."""
    return of_tiny(recipe.settings, recipe.precision)


def of(folder: Path | None, checkpoint: str, settings: Mapping[str, Any]) -> ModelSizes | None:
    """Sizes of a `policies=` checkpoint: from its config.json where that is there, else from a size in its name; None where neither is.

    Args:
        folder: where the checkpoint lies once it is fetched.
        checkpoint: `policies.checkpoint`.
        settings: `weights`, `precision` and `recompute` of the policy.
    """
    for place in (folder, Path(checkpoint).expanduser()):
        if place is not None and (place / "config.json").is_file():
            return of_config(json.loads((place / "config.json").read_text(encoding="utf-8")), settings)
    name = SIZE_IN_NAME.search(checkpoint.rpartition("/")[2])
    return (
        of_config({"model_type": "multi_modality", "language_config": PUBLISHED[name[1]]}, settings)
        if name
        else None
    )


def of_config(config: Mapping[str, Any], settings: Mapping[str, Any]) -> ModelSizes:
    """Sizes of a config.json in either layout; what it leaves out is as transformers and upstream have it."""
    if config["model_type"] == "multi_modality":
        image = config.get("gen_vision_config", {}).get("params", {})
        vision = config.get("vision_config", {}).get("params", {})
        siglip, vq = vision.get("x_siglip") or {}, image.get("x_vq") or {}
        reading = Reading(
            width=siglip.get("width", 1024),
            layers=siglip.get("layers", 24),
            image_size=vision.get("image_size", 384),
            patch_size=siglip.get("patch_size", 16),
            mlp_ratio=siglip.get("mlp_ratio", 4),
        )
        renamed = {"z_channels": "latent_channels", "ch": "base_channels", "ch_mult": "channel_multiplier"}
        drawing = {renamed.get(name, name): value for name, value in vq.items()}
        drawing |= {
            "num_embeddings": image.get("image_token_size", 16384),
            "embed_dim": image.get("n_embed", 8),
        }
        text = config["language_config"]
    else:
        text, drawing, vision = config["text_config"], config["vq_config"], config["vision_config"]
        reading = Reading(
            width=vision.get("hidden_size", 1024),
            layers=vision.get("num_hidden_layers", 24),
            image_size=vision.get("image_size", 384),
            patch_size=vision.get("patch_size", 16),
            mlp_ratio=vision.get("mlp_ratio", 4),
            depth=vision.get("depth", 2),
        )
    return _sizes(text, reading, _drawing(drawing, reading.image_size // reading.patch_size), settings)


def of_tiny(tiny: Mapping[str, Any], precision: str) -> ModelSizes:
    """Sizes of a Janus that is yet to be made, as `policies.janus.tiny` makes it."""
    vq = tiny["vq"]
    reading = Reading(width=16, layers=1, image_size=vq["image_size"], patch_size=vq["patch_size"])
    names = {"num_embeddings": "codes", "num_res_blocks": "res_blocks"}
    same = ("embed_dim", "latent_channels", "base_channels", "channel_multiplier")
    drawing = {name: vq[names.get(name, name)] for name in (*names, *same)}
    text = {**tiny["decoder"], "vocab_size": tiny["text"]["vocabulary"]}
    settings = {"weights": "float32", "precision": precision, "recompute": False}
    return _sizes(text, reading, _drawing(drawing, vq["image_size"] // vq["patch_size"]), settings)


def _drawing(vq: Mapping[str, Any], side: int) -> Drawing:
    return Drawing(
        side=side,
        codes=vq.get("num_embeddings", 16384),
        embed=vq.get("embed_dim", 8),
        latent=vq.get("latent_channels", 256),
        base=vq.get("base_channels", 128),
        multiplier=tuple(vq.get("channel_multiplier", (1, 1, 2, 2, 4))),
        blocks=vq.get("num_res_blocks", 2),
    )


def _sizes(
    text: Mapping[str, Any], reading: Reading, drawing: Drawing, settings: Mapping[str, Any]
) -> ModelSizes:
    hidden, inner = text.get("hidden_size", 4096), text.get("intermediate_size", 11008)
    layers, heads = text.get("num_hidden_layers", 32), text.get("num_attention_heads", 32)
    kv_heads = text.get("num_key_value_heads") or heads
    head_dim = text.get("head_dim") or hidden // heads
    vocabulary = text.get("vocab_size", 32000)
    of_layer = {
        "self_attn.q_proj": (hidden, heads * head_dim),
        "self_attn.k_proj": (hidden, kv_heads * head_dim),
        "self_attn.v_proj": (hidden, kv_heads * head_dim),
        "self_attn.o_proj": (heads * head_dim, hidden),
        "mlp.gate_proj": (hidden, inner),
        "mlp.up_proj": (hidden, inner),
        "mlp.down_proj": (inner, hidden),
    }
    head = {"proj_out": (hidden, hidden), "vision_head": (hidden, drawing.codes)}
    aligner = {"fc1": (drawing.embed, hidden), "hidden_layers.0": (hidden, hidden)}
    layer_parameters = sum(inputs * outputs for inputs, outputs in of_layer.values()) + 2 * hidden
    parameters = {
        "layers": layers * layer_parameters,
        "embeddings": vocabulary * hidden + hidden,  # and the final norm
        "text head": vocabulary * hidden,
        "image head": sum(_linear(*shape) for shape in head.values()),
        "image input": drawing.codes * drawing.embed + sum(_linear(*shape) for shape in aligner.values()),
        "image tokenizer": drawing.parameters(),
        "reading": reading.parameters()
        + _linear(reading.width, hidden)
        + (reading.depth - 1) * _linear(hidden, hidden),
    }
    linears = {
        f"model.language_model.layers.{layer}.{name}": shape
        for layer in range(layers)
        for name, shape in of_layer.items()
    }
    linears |= {"lm_head": (hidden, vocabulary)}
    linears |= {f"model.generation_head.{name}": shape for name, shape in head.items()}
    linears |= {f"model.generation_aligner.{name}": shape for name, shape in aligner.items()}
    return ModelSizes(
        parameters=parameters,
        trained=("layers", "embeddings", "text head", "image head", "image input"),
        drawing=("layers", "text head", "image head"),
        cut=("layers",),
        linears=linears,
        layers=layers,
        hidden=hidden,
        intermediate=inner,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        vocabulary=vocabulary,
        codes=drawing.codes,
        image_tokens=drawing.side**2,
        weight_bytes=WEIGHTS[settings["weights"]],
        product_bytes=PRODUCTS[settings["precision"]],
        recompute=settings["recompute"],
        logits=LOGITS,
        decode_bytes=drawing.decode_bytes(),
        decode_batch=min(IMAGES, max(1, PIXELS // (drawing.side * drawing.patch) ** 2)),
    )
