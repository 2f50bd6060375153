"""A CLIP in open_clip's own layout, such as HPS v2.1, as transformers' `CLIPModel`.

The sizes are read from the tensors. The numbers of attention heads leave no trace there: pass them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.experts.pretrained import first_line
from harness.experts.weights import check_names, count_layers, read_tensors

if TYPE_CHECKING:
    from torch import Tensor

_PARTS = ("weight", "bias")
_TOWERS = {"visual.": "vision_model", "": "text_model"}  # open_clip's prefix -> transformers' module
_LAYER = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_OUTSIDE = {
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "logit_scale": "logit_scale",
    "visual.proj": "visual_projection.weight",
    "text_projection": "text_projection.weight",
    **{f"visual.ln_pre.{part}": f"vision_model.pre_layrnorm.{part}" for part in _PARTS},
    **{f"visual.ln_post.{part}": f"vision_model.post_layernorm.{part}" for part in _PARTS},
    **{f"ln_final.{part}": f"text_model.final_layer_norm.{part}" for part in _PARTS},
}
_TRANSPOSED = ("visual.proj", "text_projection")  # open_clip multiplies by them from the right


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """The `state_dict` of a training checkpoint; code in the file is never run.

    Raises:
        ValueError: the file holds no `state_dict` of tensors.
    """
    return read_tensors(path, "state_dict")


def clip_model(
    state: Mapping[str, Tensor],
    *,
    vision_heads: int,
    text_heads: int,
    dtype: Any = None,
    activation: str = "gelu",
) -> Any:
    """The `CLIPModel` that equals open_clip's ViT with these weights (LayerNorm eps 1e-5).

    Args:
        state: an open_clip state dict; its tensors become the model's, where `dtype` allows.
        vision_heads: attention heads of the image tower (ViT-H: 16).
        text_heads: attention heads of the text tower (ViT-H: 16).
        dtype: of the weights; None for float32.
        activation: in transformers' terms: `gelu` (by erf), or `quick_gelu`, with which OpenAI trained its
            own weights.

    Raises:
        ValueError: names are missing or unknown, or the shapes do not belong to one model.
    """
    import torch
    from transformers import CLIPModel

    vision_layers = count_layers(state, "visual.transformer.resblocks.")
    names = _names(vision_layers, count_layers(state, "transformer.resblocks."))
    check_names(state, names, "an open_clip ViT")
    weights: dict[str, Tensor] = {}
    for name, targets in names.items():
        value = state[name].T.contiguous() if name in _TRANSPOSED else state[name]
        pieces = value.chunk(3) if len(targets) == 3 else [value]
        weights |= dict(zip(targets, pieces, strict=True))
    try:
        config = _config(state, vision_heads, text_heads, activation)
        model = CLIPModel.from_pretrained(
            None, config=config, state_dict=weights, dtype=dtype or torch.float32
        )
    except (RuntimeError, IndexError, ValueError) as error:
        raise ValueError(
            f"the shapes of these weights are not those of one open_clip ViT: {first_line(error)}"
        ) from error
    return model


def _names(vision_layers: int, text_layers: int) -> dict[str, tuple[str, ...]]:
    """open_clip's name -> transformers' names: one, or three for the rows of queries, keys and values."""
    names: dict[str, tuple[str, ...]] = {name: (target,) for name, target in _OUTSIDE.items()}
    for (prefix, tower), count in zip(_TOWERS.items(), (vision_layers, text_layers), strict=True):
        for index in range(count):
            theirs, ours = f"{prefix}transformer.resblocks.{index}", f"{tower}.encoder.layers.{index}"
            for part in _PARTS:
                qkv = tuple(f"{ours}.self_attn.{letter}_proj.{part}" for letter in "qkv")
                names[f"{theirs}.attn.in_proj_{part}"] = qkv
                for name, target in _LAYER.items():
                    names[f"{theirs}.{name}.{part}"] = (f"{ours}.{target}.{part}",)
    return names


def _config(state: Mapping[str, Tensor], vision_heads: int, text_heads: int, activation: str) -> Any:
    from transformers import CLIPConfig

    vision_width, _, _, patch = state["visual.conv1.weight"].shape
    vocabulary, text_width = state["token_embedding.weight"].shape
    side = math.isqrt(state["visual.positional_embedding"].shape[0] - 1)
    for tower, width, heads in (("vision", vision_width, vision_heads), ("text", text_width, text_heads)):
        if width % heads:
            raise ValueError(f"{tower}_heads={heads} do not divide the {tower} tower's width {width}")
    joint = state["text_projection"].shape[1]
    shared = {"hidden_act": activation, "layer_norm_eps": 1e-5, "projection_dim": joint}
    return CLIPConfig(
        projection_dim=joint,
        vision_config={
            **shared,
            "hidden_size": vision_width,
            "intermediate_size": state["visual.transformer.resblocks.0.mlp.c_fc.weight"].shape[0],
            "num_hidden_layers": count_layers(state, "visual.transformer.resblocks."),
            "num_attention_heads": vision_heads,
            "patch_size": patch,
            "image_size": side * patch,
        },
        text_config={
            **shared,
            "hidden_size": text_width,
            "intermediate_size": state["transformer.resblocks.0.mlp.c_fc.weight"].shape[0],
            "num_hidden_layers": count_layers(state, "transformer.resblocks."),
            "num_attention_heads": text_heads,
            "vocab_size": vocabulary,
            "max_position_embeddings": state["positional_embedding"].shape[0],
            "bos_token_id": vocabulary - 2,
            "eos_token_id": vocabulary - 1,  # the text is pooled there
            "pad_token_id": 0,
        },
    )
