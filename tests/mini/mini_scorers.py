"""Tiny random scorers as files a user would have: BLIP-VQA's original checkpoint, BERT's tokenizer, CLIP."""

from __future__ import annotations

from pathlib import Path

import mini_experts
import torch
from transformers import BertTokenizer, BlipConfig, BlipForQuestionAnswering, CLIPModel

from benchmarks.t2i_compbench.models import blip_original
from benchmarks.t2i_compbench.models.blip import IMAGE_SIZE

SPECIAL = {
    0: "[PAD]",
    100: "[UNK]",
    101: "[CLS]",
    102: "[SEP]",
    103: "[MASK]",
    1029: "?",
    1037: "a",
    1996: "the",
    2053: "no",
    2748: "yes",
}
COLORS = ("red", "blue", "green", "black", "white")
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789-',."


def blip_state(
    *, image: int = IMAGE_SIZE, patch: int = 48, width: int = 64, layers: int = 2
) -> dict[str, torch.Tensor]:
    """Random weights under the original's names, large enough that answers differ; one head of 64
    for a width of 64.
    """
    inner, words, generator = 2 * width, blip_original.WORDS, torch.Generator().manual_seed(0)
    shapes = {
        "visual_encoder.cls_token": (1, 1, width),
        "visual_encoder.pos_embed": (1, 1 + (image // patch) ** 2, width),
        "visual_encoder.patch_embed.proj.weight": (width, 3, patch, patch),
        "text_decoder.cls.predictions.bias": (words,),
    }
    state = {}
    for name in blip_original._names(layers, layers):
        module, _, part = name.rpartition(".")
        if name in shapes:
            shape = shapes[name]
        elif "_embeddings" in name:
            shape = (words if "word" in name else 64, width)
        else:
            rows = 3 * width if "qkv" in name else inner if "fc1" in name or "intermediate" in name else width
            columns = (
                inner
                if "fc2" in name or (module.endswith("output.dense") and "attention" not in module)
                else width
            )
            shape = (rows,) if part == "bias" or "norm" in name.lower() else (rows, columns)
        value = torch.randn(shape, generator=generator)
        state[name] = 1 + 0.1 * value if "norm" in name.lower() and part == "weight" else 0.2 * value
    for name, source in blip_original._TIED.items():
        state[name] = state[source]
    return state


def write_blip(file: Path) -> None:
    """An original `.pth` for 480 pixels in 10 x 10 patches, width 64, two layers; 20 MB for its
    vocabulary.
    """
    torch.save({"model": blip_state()}, file)


def write_blip_copy(folder: Path) -> None:
    """The same in transformers' layout at 96 pixels, its configuration as the hub's copies have it:
    with the library's defaults.
    """
    text = {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "max_position_embeddings": 64,
    }
    vision = {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "image_size": 96,
        "patch_size": 48,
    }
    model = BlipForQuestionAnswering(BlipConfig(text_config=text, vision_config=vision))
    model.load_state_dict(blip_original.blip_model(blip_state(), image_size=96).state_dict())
    model.save_pretrained(folder)


def write_tokenizer(folder: Path) -> None:
    """BERT-base-uncased's ids for what BLIP knows by number, a few colors, and letters for all
    other words.
    """
    rest = iter([*COLORS, *LETTERS, *(f"##{letter}" for letter in LETTERS)])
    pieces = [
        SPECIAL.get(index) or (next(rest, None) if index > 4000 else None) or f"[unused{index}]"
        for index in range(30522)
    ]
    BertTokenizer(vocab={piece: index for index, piece in enumerate(pieces)}).save_pretrained(folder)


def write_clip(folder: Path) -> CLIPModel:
    """See `mini_experts`: 28 pixels, letters for words."""
    return mini_experts.write_clip(folder)
