"""The sizes of a Janus, from its config.json or from the settings of a model to be made; without torch.

Parameters are counted as in transformers' classes. A test compares them with real models and with the
published totals (2089.2 M for the 1B and 7420.4 M for the 7B, including the attention pool of the reading
tower and the wider parts of the 7B).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.files import read_user_text
from harness.paths import user_path
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
LOGITS = 2**25  # the same number as in policies.janus.heads
IMAGES, PIXELS = 32, 2**20  # the same numbers as in policies.janus.vq
DECODE_COPIES = 5  # copies of the decoder's widest activation that its norms and convolutions hold at once


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """The VQ model: `side` x `side` tokens of `patch` x `patch` pixels."""

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

    @property
    def widths(self) -> list[int]:
        return [self.base * factor for factor in self.multiplier]

    def encoder(self) -> int:
        """Parameters up to the latents."""
        before, last = self.base, self.widths[-1]
        count = _conv(3, before)
        for level, width in enumerate(self.widths):
            count += self._level(before, width, self.blocks, attends=level == len(self.widths) - 1)
            before = width
        count += sum(_conv(width, width) for width in self.widths[:-1])  # downsampling
        count += self._middle(last) + _norm(last) + _conv(last, self.latent)
        return count + _conv(self.latent, self.embed, 1)

    def decoder(self) -> int:
        """Parameters from the codes to pixels."""
        first, before = self.widths[0], self.widths[-1]
        count = _conv(self.latent, before) + self._middle(before)
        for level, width in enumerate(reversed(self.widths)):
            count += self._level(before, width, self.blocks + 1, attends=level == 0)
            before = width
        count += sum(_conv(width, width) for width in self.widths[1:])  # upsampling
        count += _norm(first) + _conv(first, 3)
        return count + self.codes * self.embed + _conv(self.embed, self.latent, 1)

    def _level(self, before: int, after: int, count: int, *, attends: bool) -> int:
        """The residual blocks of a level, with attention or without; the first block changes the width."""
        resnets = _resnet(before, after) + (count - 1) * _resnet(after, after)
        return resnets + attends * count * _attention(after)

    def _middle(self, width: int) -> int:
        return 2 * _resnet(width, width) + _attention(width)

    def decode_bytes(self) -> int:
        """The peak for one image: float32 activations at the full image size, where they are largest."""
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
    """The SigLIP tower and its aligner, which read images. Drawing does not use them."""

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
    """Sizes of a `policies=` checkpoint, from its config.json or else from the size in its name.

    None if there is neither.

    Args:
        folder: the checkpoint's folder, once it is fetched.
        checkpoint: `policies.checkpoint`.
        settings: `weights`, `precision` and `recompute` of the policy.
    """
    for path in (folder, user_path(checkpoint)):
        if path is not None and (path / "config.json").is_file():
            return of_config(json.loads(read_user_text(path / "config.json")), settings)
    size = SIZE_IN_NAME.search(checkpoint.rpartition("/")[2])
    if size is None:
        return None
    return of_config({"model_type": "multi_modality", "language_config": PUBLISHED[size[1]]}, settings)


def of_config(config: Mapping[str, Any], settings: Mapping[str, Any]) -> ModelSizes:
    """Sizes of a config.json in either layout, with the defaults of transformers and upstream."""
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
    """Sizes of the Janus that `policies.janus.tiny` will make."""
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
        "image encoder": drawing.encoder(),
        "image decoder": drawing.decoder(),
        "reading": reading.parameters()
        + _linear(reading.width, hidden)
        + (reading.depth - 1) * _linear(hidden, hidden),
    }
    linears = {}
    for layer in range(layers):
        for name, shape in of_layer.items():
            linears[f"model.language_model.layers.{layer}.{name}"] = shape
    linears["lm_head"] = (hidden, vocabulary)
    linears |= {f"model.generation_head.{name}": shape for name, shape in head.items()}
    linears |= {f"model.generation_aligner.{name}": shape for name, shape in aligner.items()}
    return ModelSizes(
        parameters=parameters,
        trained=("layers", "embeddings", "text head", "image head", "image input"),
        drawing=("layers", "text head", "image head"),
        drawn=("layers", "embeddings", "text head", "image head", "image input", "image decoder"),
        float32=("image encoder", "image decoder"),
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
