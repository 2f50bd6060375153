"""A tiny random Janus written in the layout Janus-Pro is published in: the loader's rules turned
round, by hand.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import (
    JanusConfig,
    JanusForConditionalGeneration,
    JanusVisionConfig,
    JanusVQVAEConfig,
    LlamaConfig,
)

from policies.janus import text

LANGUAGE = {
    "model_type": "llama",
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "rms_norm_eps": 1e-3,
    "rope_theta": 300.0,
}
VISION = {"width": 24, "layers": 2, "heads": 3, "patch_size": 4, "mlp_ratio": 3}
VQ = {"ch": 32, "ch_mult": [1, 2, 2], "z_channels": 64, "num_res_blocks": 1}
SIZE, CODES = 12, 32  # pixels: of mini_world's pictures

BACK = (
    (r"^lm_head\.", "language_model.lm_head."),
    (r"^model\.language_model\.", "language_model.model."),
    (r"^model\.vision_model\.embeddings\.position_embedding\.weight$", "vision_model.vision_tower.pos_embed"),
    (r"^model\.vision_model\.embeddings\.patch_embedding\.", "vision_model.vision_tower.patch_embed.proj."),
    (r"^model\.vision_model\.post_layernorm\.", "vision_model.vision_tower.norm."),
    (r"^model\.vision_model\.encoder\.layers\.", "vision_model.vision_tower.blocks."),
    (r"(blocks\.\d+)\.self_attn\.projection_layer\.", r"\1.attn.proj."),
    (r"(blocks\.\d+)\.self_attn\.([qkv])_proj\.", r"\1.attn.\2."),
    (r"(blocks\.\d+)\.layer_norm", r"\1.norm"),
    (r"^model\.aligner\.", "aligner."),
    (r"^model\.generation_aligner\.", "gen_aligner."),
    (r"aligner\.fc1\.", "aligner.layers.0."),
    (r"aligner\.hidden_layers\.0\.", "aligner.layers.2."),
    (r"^model\.generation_embeddings\.", "gen_embed."),
    (r"^model\.generation_head\.proj_out\.", "gen_head.output_mlp_projector."),
    (r"^model\.generation_head\.vision_head\.", "gen_head.vision_head."),
    (r"^model\.vqmodel\.", "gen_vision_model."),
    (r"coder\.(?:down|up)\.(\d+)\.block\.", r"coder.conv_blocks.\1.res."),
    (r"coder\.(?:down|up)\.", "coder.conv_blocks."),
    (r"mid\.block_1\.", "mid.0."),
    (r"mid\.attn_1\.", "mid.1."),
    (r"mid\.block_2\.", "mid.2."),
)


def write(
    folder: Path, *, shards: int = 1, pickled: bool = False, **language: Any
) -> JanusForConditionalGeneration:
    """Writes the folder and returns the model that transformers' own classes make of the same sizes
    and weights.
    """
    torch.manual_seed(11)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = text.train(["a red circle on the left of a blue square", "User: x\n\nAssistant:"], 300)
    text.save(tokenizer, folder)
    sizes = {**LANGUAGE, "vocab_size": tokenizer.get_vocab_size() + 3, **language}
    model = JanusForConditionalGeneration(_native_config(sizes)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.2)
    (folder / "config.json").write_text(json.dumps(config(sizes)), encoding="utf-8")
    _write_weights(folder, original(model.state_dict()), shards, ".bin" if pickled else ".safetensors")
    return model


def _native_config(language: dict[str, Any]) -> JanusConfig:
    width = language["hidden_size"]
    return JanusConfig(
        text_config=LlamaConfig(**language, tie_word_embeddings=False).to_dict(),
        vision_config=JanusVisionConfig(
            hidden_size=VISION["width"],
            num_hidden_layers=VISION["layers"],
            num_attention_heads=VISION["heads"],
            mlp_ratio=VISION["mlp_ratio"],
            image_size=SIZE,
            patch_size=VISION["patch_size"],
            num_image_tokens=(SIZE // VISION["patch_size"]) ** 2,
            projection_dim=width,
        ).to_dict(),
        vq_config=JanusVQVAEConfig(
            num_embeddings=CODES,
            latent_channels=VQ["z_channels"],
            base_channels=VQ["ch"],
            channel_multiplier=VQ["ch_mult"],
            num_res_blocks=VQ["num_res_blocks"],
            projection_dim=width,
            image_token_embed_dim=width,
        ).to_dict(),
        tie_word_embeddings=False,
    )


def config(language: dict[str, Any]) -> dict[str, Any]:
    """config.json as upstream writes it, with its two usual lines about how it was run."""
    width = language["hidden_size"]
    mlp = {"depth": 2, "n_embed": width, "projector_type": "mlp_gelu"}
    return {
        "model_type": "multi_modality",
        "torch_dtype": "bfloat16",
        "vision_config": {
            "params": {
                "image_size": SIZE,
                "model_name": "siglip_tiny",
                "select_layer": -1,
                "x_siglip": VISION,
            }
        },
        "aligner_config": {"params": {**mlp, "input_dim": VISION["width"]}},
        "gen_vision_config": {
            "cls": "VQ-16",
            "params": {"image_token_size": CODES, "n_embed": 8, "x_vq": VQ},
        },
        "gen_aligner_config": {"params": {**mlp, "input_dim": 8}},
        "gen_head_config": {
            "params": {"image_token_embed": width, "image_token_size": CODES, "n_embed": width}
        },
        "language_config": {
            **language,
            "torch_dtype": "bfloat16",
            "_attn_implementation": "flash_attention_2",
        },
    }


def original(native: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same weights under upstream's names, with those that are never used."""
    renamed: dict[str, Tensor] = {}
    for name, value in native.items():
        for pattern, replacement in BACK:
            name = re.sub(pattern, replacement, name)
        renamed[name] = value[None] if name.endswith("pos_embed") else value
    for name in [name for name in renamed if ".attn.q." in name and "vision_tower" in name]:
        parts = [renamed.pop(name.replace(".q.", f".{part}.")) for part in "qkv"]
        renamed[name.replace(".q.", ".qkv.")] = torch.cat(parts)
    renamed["vision_model.vision_tower.attn_pool.latent"] = torch.ones(1, 1, VISION["width"])
    renamed["gen_vision_model.quantize.codebook_used"] = torch.zeros(65536)
    return renamed


def _write_weights(folder: Path, values: dict[str, Tensor], shards: int, suffix: str) -> None:
    stem = "pytorch_model" if suffix == ".bin" else "model"
    save = (
        torch.save
        if suffix == ".bin"
        else lambda values, file: save_file(values, file, metadata={"format": "pt"})
    )
    names = sorted(values)
    places: dict[str, str] = {}
    for number in range(shards):
        file = f"{stem}-{number + 1:05}-of-{shards:05}{suffix}" if shards > 1 else stem + suffix
        part = {name: values[name].contiguous() for name in names[number::shards]}
        save(part, folder / file)
        places |= dict.fromkeys(part, file)
    if shards > 1:
        index = {"metadata": {}, "weight_map": places}
        (folder / f"{stem}{suffix}.index.json").write_text(json.dumps(index), encoding="utf-8")
