"""The published layout of Janus-Pro and GoT-R1, converted to transformers': configuration and weight names.

Source: deepseek-ai/Janus `janus/models` (names and hard-coded sizes). The rules follow the module trees of
both. Nothing is transposed, and both have the same RoPE.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor
from transformers import JanusConfig, JanusVisionConfig, JanusVQVAEConfig, LlamaConfig

# sizes that upstream sets in its source, not in config.json; x_siglip and x_vq in a config.json override them
SIGLIP_NAME = "siglip_large_patch16_384"
SIGLIP = {"width": 1024, "layers": 24, "heads": 16, "patch_size": 16, "mlp_ratio": 4}
VQ = {"ch": 128, "ch_mult": [1, 1, 2, 2, 4], "z_channels": 256, "num_res_blocks": 2}
IMAGE_SIZE = 384
# entries of language_config that are no sizes: run-time settings, and constants of every Janus
NOT_SIZES = {
    "architectures",
    "torch_dtype",
    "dtype",
    "_attn_implementation",
    "attn_implementation",
    "tie_word_embeddings",
}

UNUSED = re.compile(
    r"vision_model\.vision_tower\.attn_pool\..+|gen_vision_model\.quantize\.codebook_used|.+\.rotary_emb\.inv_freq"
)
QKV = re.compile(r"(vision_model\.vision_tower\.blocks\.\d+\.attn)\.qkv\.(weight|bias)")
POSITIONS = "vision_model.vision_tower.pos_embed"
RULES = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"language_model\.model\.", "model.language_model."),
        (r"language_model\.lm_head\.", "lm_head."),
        (
            r"vision_model\.vision_tower\.pos_embed$",
            "model.vision_model.embeddings.position_embedding.weight",
        ),
        (
            r"vision_model\.vision_tower\.patch_embed\.proj\.",
            "model.vision_model.embeddings.patch_embedding.",
        ),
        (
            r"vision_model\.vision_tower\.blocks\.(\d+)\.attn\.proj\.",
            r"model.vision_model.encoder.layers.\1.self_attn.projection_layer.",
        ),
        (
            r"vision_model\.vision_tower\.blocks\.(\d+)\.attn\.([qkv])\.",
            r"model.vision_model.encoder.layers.\1.self_attn.\2_proj.",
        ),
        (
            r"vision_model\.vision_tower\.blocks\.(\d+)\.norm([12])\.",
            r"model.vision_model.encoder.layers.\1.layer_norm\2.",
        ),
        (r"vision_model\.vision_tower\.blocks\.(\d+)\.mlp\.", r"model.vision_model.encoder.layers.\1.mlp."),
        (r"vision_model\.vision_tower\.norm\.", "model.vision_model.post_layernorm."),
        (r"aligner\.layers\.", "model.aligner.layers."),
        (r"gen_aligner\.layers\.", "model.generation_aligner.layers."),
        (r"gen_embed\.", "model.generation_embeddings."),
        (r"gen_head\.output_mlp_projector\.", "model.generation_head.proj_out."),
        (r"gen_head\.vision_head\.", "model.generation_head.vision_head."),
        (r"gen_vision_model\.encoder\.conv_blocks\.(\d+)\.", r"model.vqmodel.encoder.down.\1."),
        (r"gen_vision_model\.decoder\.conv_blocks\.(\d+)\.", r"model.vqmodel.decoder.up.\1."),
        (r"gen_vision_model\.(en|de)coder\.mid\.0\.", r"model.vqmodel.\1coder.mid.block_1."),
        (r"gen_vision_model\.(en|de)coder\.mid\.1\.", r"model.vqmodel.\1coder.mid.attn_1."),
        (r"gen_vision_model\.(en|de)coder\.mid\.2\.", r"model.vqmodel.\1coder.mid.block_2."),
        (r"gen_vision_model\.", "model.vqmodel."),
    )
)
RESIDUAL = re.compile(r"^(model\.vqmodel\.(?:encoder\.down|decoder\.up)\.\d+)\.res\.")
PROJECTION = re.compile(r"^(model\.(?:generation_)?aligner)\.layers\.(\d+)\.")


def native(name: str, tensor: Tensor) -> dict[str, Tensor]:
    """A weight under transformers' names: one, three for a fused qkv, none for weights that Janus never uses.

    A name that no rule matches is kept.
    """
    if UNUSED.fullmatch(name):
        return {}
    if fused := QKV.fullmatch(name):
        names = [rename(f"{fused[1]}.{letter}.{fused[2]}") for letter in "qkv"]
        return dict(zip(names, tensor.chunk(3), strict=False))
    return {rename(name): tensor.squeeze(0) if name == POSITIONS else tensor}


def rename(name: str) -> str:
    """The name of a weight, other than a fused qkv, under transformers' names."""
    for pattern, replacement in RULES:
        if pattern.match(name):
            name = pattern.sub(replacement, name, count=1)
            break
    name = RESIDUAL.sub(r"\1.block.", name)
    return PROJECTION.sub(lambda match: f"{match[1]}.{_projection(int(match[2]))}.", name)


def _projection(index: int) -> str:
    """The name of a linear layer; they have even indices, with GELU between them."""
    return "fc1" if index == 0 else f"hidden_layers.{index // 2 - 1}"


def config(values: Mapping[str, Any]) -> JanusConfig:
    """The configuration in transformers' classes.

    Missing entries of language_config have LlamaConfig's defaults; other missing sizes are those in
    upstream's source.

    Raises:
        ValueError: a key is missing, or transformers' Janus cannot represent the model's shape.
    """
    language = _at(values, "language_config")
    if language.get("model_type", "llama") != "llama":
        raise ValueError(f"language_config.model_type is {language['model_type']!r}, allowed is 'llama'")
    text = LlamaConfig(
        **{name: value for name, value in language.items() if name not in NOT_SIZES},
        tie_word_embeddings=False,
    )
    width = _width(values, text.hidden_size)
    vision = _siglip(values)
    blocks = {**VQ, **_at(values, "gen_vision_config.params.x_vq", {})}
    return JanusConfig(
        text_config=text.to_dict(),
        vision_config=JanusVisionConfig(
            hidden_size=vision["width"],
            num_hidden_layers=vision["layers"],
            num_attention_heads=vision["heads"],
            image_size=vision["image_size"],
            patch_size=vision["patch_size"],
            mlp_ratio=vision["mlp_ratio"],
            num_image_tokens=(vision["image_size"] // vision["patch_size"]) ** 2,
            projection_dim=width,
            depth=_at(values, "aligner_config.params.depth", 2),
        ).to_dict(),
        vq_config=JanusVQVAEConfig(
            num_embeddings=_at(values, "gen_vision_config.params.image_token_size"),
            embed_dim=_at(values, "gen_vision_config.params.n_embed"),
            latent_channels=blocks["z_channels"],
            base_channels=blocks["ch"],
            channel_multiplier=list(blocks["ch_mult"]),
            num_res_blocks=blocks["num_res_blocks"],
            projection_dim=width,
            image_token_embed_dim=width,
            num_hidden_layers=_at(values, "gen_aligner_config.params.depth", 2),
        ).to_dict(),
        tie_word_embeddings=False,  # transformers' default is to tie, which would make lm_head the embedding
    )


def _width(values: Mapping[str, Any], hidden: int) -> int:
    """The width of all inputs and outputs of the decoder: transformers' Janus has only one."""
    names = (
        "aligner_config.params.n_embed",
        "gen_aligner_config.params.n_embed",
        "gen_head_config.params.n_embed",
    )
    for name in (*names, "gen_head_config.params.image_token_embed"):
        if _at(values, name) != hidden:
            raise ValueError(
                f"{name} is {_at(values, name)!r}, allowed is the width of the decoder, {hidden}"
            )
    return hidden


def _siglip(values: Mapping[str, Any]) -> dict[str, Any]:
    name = _at(values, "vision_config.params.model_name")
    overrides = _at(values, "vision_config.params.x_siglip", {})
    if not overrides and name != SIGLIP_NAME:
        raise ValueError(f"vision_config.params.model_name is {name!r}, allowed is {SIGLIP_NAME!r}")
    image_size = _at(values, "vision_config.params.image_size", IMAGE_SIZE)
    return {**SIGLIP, **overrides, "image_size": image_size}


def _at(values: Any, dotted: str, default: Any = None) -> Any:
    """The value under nested keys, or the default.

    Raises:
        ValueError: the value is missing and has no default.
    """
    for name in dotted.split("."):
        values = values.get(name) if isinstance(values, Mapping) else None
    if values is None and default is None:
        raise ValueError(f"it has no {dotted}")
    return default if values is None else values
