"""Reads BLIP-VQA's original checkpoint (`model_base_vqa_capfilt_large.pth`) into transformers'
`BlipForQuestionAnswering`.

The sizes come from the tensors. Only the width of an attention head leaves no trace there; it is 64 in
every published BLIP. The names are those of `models/blip_vqa.py` of github.com/salesforce/BLIP.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.experts.pretrained import first_line
from harness.experts.weights import check_names, count_layers, read_tensors

if TYPE_CHECKING:
    from torch import Tensor

HEAD_WIDTH = 64
VISION_EPS, TEXT_EPS = 1e-6, 1e-12  # of the layer norms; the library has 1e-5 for the first
WORDS = 30524  # BERT's 30522, [DEC] and [ENC]

_POSITIONS = "visual_encoder.pos_embed"  # [1, 1 + patches, width]: of the class token, then row by row
_OUTSIDE = {
    "visual_encoder.cls_token": "vision_model.embeddings.class_embedding",
    _POSITIONS: "vision_model.embeddings.position_embedding",
}
_MODULES = {  # with weight and bias
    "visual_encoder.patch_embed.proj": "vision_model.embeddings.patch_embedding",
    "visual_encoder.norm": "vision_model.post_layernorm",
    **{
        name: name for name in ("text_encoder.embeddings.LayerNorm", "text_decoder.bert.embeddings.LayerNorm")
    },
    **{
        name: name
        for name in (
            "text_decoder.cls.predictions.transform.dense",
            "text_decoder.cls.predictions.transform.LayerNorm",
        )
    },
}
_BLOCK = {
    "norm1": "layer_norm1",
    "norm2": "layer_norm2",
    "attn.qkv": "self_attn.qkv",
    "attn.proj": "self_attn.projection",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}
_ATTENTION = ("self.query", "self.key", "self.value", "output.dense", "output.LayerNorm")
_LAYER = (
    *(f"attention.{part}" for part in _ATTENTION),
    *(f"crossattention.{part}" for part in _ATTENTION),
    *("intermediate.dense", "output.dense", "output.LayerNorm"),
)
_TEXT_TOWERS = ("text_encoder", "text_decoder.bert")
_TIED = {  # stored twice: the same numbers
    "text_decoder.cls.predictions.decoder.weight": "text_decoder.bert.embeddings.word_embeddings.weight",
    "text_decoder.cls.predictions.decoder.bias": "text_decoder.cls.predictions.bias",
}


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """The tensors under `model`; code in the file is never run.

    Raises:
        ValueError: it is no such file; says what it holds.
    """
    return read_tensors(path, "model")


def blip_model(
    state: Mapping[str, Tensor],
    *,
    image_size: int,
    vision_head: int = HEAD_WIDTH,
    text_head: int = HEAD_WIDTH,
) -> Any:
    """The `BlipForQuestionAnswering` that computes what the official modules with these weights compute,
    in float32.

    Args:
        state: the tensors of the original file under their names there; a table of image positions of
            another grid is resized bicubically, as the official loader does.
        image_size: of the square images, in pixels.
        vision_head: width of an attention head of the image tower.
        text_head: the same of the two text towers.

    Raises:
        ValueError: names are missing or left over, or the shapes do not belong together.
    """
    import torch
    from transformers import BlipForQuestionAnswering

    state = {name: value for name, value in state.items() if not name.endswith("position_ids")}
    _check_tied(state)
    names = _names(
        count_layers(state, "visual_encoder.blocks."), count_layers(state, "text_encoder.encoder.layer.")
    )
    check_names([name for name in state if name not in _TIED], names, "a BLIP for questions")
    try:
        patch = state["visual_encoder.patch_embed.proj.weight"].shape[-1]
        state[_POSITIONS] = _resized(state[_POSITIONS], image_size // patch)
        config = _config(state, image_size, vision_head, text_head)
        weights = {target: state[name] for name, target in names.items()}
        return BlipForQuestionAnswering.from_pretrained(
            None, config=config, state_dict=weights, dtype=torch.float32
        )
    except (RuntimeError, IndexError, ValueError) as error:
        raise ValueError(
            f"the shapes of these weights are not those of one BLIP: {first_line(error)}"
        ) from error


def _check_tied(state: Mapping[str, Tensor]) -> None:
    for name, source in _TIED.items():
        if name in state and source in state and not state[name].equal(state[source]):
            raise ValueError(f"{name} and {source} are the same numbers in a BLIP, and differ here")


def _resized(positions_1ND: Tensor, side: int) -> Tensor:
    """The table for `side` x `side` patches; the class token's row stays."""
    import torch

    grid = math.isqrt(positions_1ND.shape[1] - 1)
    if grid == side:
        return positions_1ND
    first_11D, rest_1ND = positions_1ND[:, :1], positions_1ND[:, 1:]
    map_1DHW = rest_1ND.reshape(1, grid, grid, -1).permute(0, 3, 1, 2)
    resized_1DHW = torch.nn.functional.interpolate(
        map_1DHW.float(), (side, side), mode="bicubic", align_corners=False
    )
    return torch.cat([first_11D, resized_1DHW.flatten(2).transpose(1, 2)], dim=1)


def _names(vision_layers: int, text_layers: int) -> dict[str, str]:
    """Original name -> transformers' name; those that are stored twice, once."""
    modules = dict(_MODULES)
    for index in range(vision_layers):
        theirs, ours = f"visual_encoder.blocks.{index}", f"vision_model.encoder.layers.{index}"
        modules |= {f"{theirs}.{name}": f"{ours}.{target}" for name, target in _BLOCK.items()}
    for tower, index, part in product(_TEXT_TOWERS, range(text_layers), _LAYER):
        name = f"{tower}.encoder.layer.{index}.{part}"
        modules[name] = name
    tables = [
        f"{tower}.embeddings.{kind}_embeddings.weight"
        for tower, kind in product(_TEXT_TOWERS, ("word", "position"))
    ]
    return {
        **_OUTSIDE,
        **{name: name for name in (*tables, "text_decoder.cls.predictions.bias")},
        **{f"{name}.weight": f"{target}.weight" for name, target in modules.items()},
        **{f"{name}.bias": f"{target}.bias" for name, target in modules.items()},
    }


def _config(state: Mapping[str, Tensor], image_size: int, vision_head: int, text_head: int) -> Any:
    from transformers import BlipConfig

    vision_width, _, _, patch = state["visual_encoder.patch_embed.proj.weight"].shape
    words, text_width = state["text_encoder.embeddings.word_embeddings.weight"].shape
    if words != WORDS:
        raise ValueError(f"the vocabulary has {words} words, and {WORDS} are needed")
    for tower, width, head in (("image", vision_width, vision_head), ("text", text_width, text_head)):
        if width % head:
            raise ValueError(
                f"the {tower} tower's width {width} is no multiple of {head}, the width of an attention head"
            )
    return BlipConfig(
        vision_config={
            "hidden_size": vision_width,
            "intermediate_size": state["visual_encoder.blocks.0.mlp.fc1.weight"].shape[0],
            "num_hidden_layers": count_layers(state, "visual_encoder.blocks."),
            "num_attention_heads": vision_width // vision_head,
            "patch_size": patch,
            "image_size": image_size,
            "layer_norm_eps": VISION_EPS,
        },
        text_config={
            "hidden_size": text_width,
            "intermediate_size": state["text_encoder.encoder.layer.0.intermediate.dense.weight"].shape[0],
            "num_hidden_layers": count_layers(state, "text_encoder.encoder.layer."),
            "num_attention_heads": text_width // text_head,
            "vocab_size": words,
            "max_position_embeddings": state["text_encoder.embeddings.position_embeddings.weight"].shape[0],
            "layer_norm_eps": TEXT_EPS,
        },
    )
