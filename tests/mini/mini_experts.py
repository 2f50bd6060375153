"""Tiny random frozen models as folders that `from_pretrained` reads: CLIP, Grounding DINO, OWLv2,
and HPS's official file.
"""

from __future__ import annotations

import string
from pathlib import Path

import torch
from transformers import (
    BertTokenizer,
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPProcessor,
    CLIPTokenizer,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    GroundingDinoImageProcessorPil,
    GroundingDinoProcessor,
    Owlv2Config,
    Owlv2ForObjectDetection,
    Owlv2ImageProcessorPil,
    Owlv2Processor,
    SwinConfig,
)

TOWER = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}


def clip_tokenizer() -> CLIPTokenizer:
    """CLIP's, with letters for words: every character of ASCII, in a word and at its end; start and
    end come last.
    """
    letters = [letter for letter in string.printable if not letter.isspace()]
    pieces = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={piece: index for index, piece in enumerate(pieces)}, merges=[])


def _clip_text(positions: int) -> dict[str, int]:
    count = len(clip_tokenizer())
    ends = {"bos_token_id": count - 2, "eos_token_id": count - 1, "pad_token_id": count - 1}
    return {**TOWER, "vocab_size": count, "max_position_embeddings": positions, **ends}


def _random(model: torch.nn.Module, scale: float) -> torch.nn.Module:
    """Weights large enough that answers differ."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn(weight.shape, generator=generator), alpha=scale)
    return model.eval()


def write_clip(folder: Path) -> CLIPModel:
    vision = {**TOWER, "image_size": 28, "patch_size": 14}
    torch.manual_seed(0)
    model = _random(
        CLIPModel(CLIPConfig(text_config=_clip_text(77), vision_config=vision, projection_dim=24)), 0.1
    )
    model.save_pretrained(folder)
    sizes = {"size": {"shortest_edge": 28}, "crop_size": {"height": 28, "width": 28}}
    CLIPProcessor(CLIPImageProcessorPil(**sizes), clip_tokenizer()).save_pretrained(folder)
    return model


def write_hps(folder: Path, name: str = "HPS_v2.1_compressed.pt") -> dict[str, torch.Tensor]:
    """Random weights under open_clip's names, 4 heads of 8 in both towers, and CLIP's tokenizer
    beside them.
    """
    generator = torch.Generator().manual_seed(1)
    width, joint, vocabulary = 32, 24, len(clip_tokenizer())

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator) * 0.3

    def layers(prefix: str, count: int) -> dict[str, torch.Tensor]:
        shapes = {
            "attn.in_proj_weight": (3 * width, width),
            "attn.in_proj_bias": (3 * width,),
            "attn.out_proj.weight": (width, width),
            "attn.out_proj.bias": (width,),
            "mlp.c_fc.weight": (48, width),
            "mlp.c_fc.bias": (48,),
            "mlp.c_proj.weight": (width, 48),
            "mlp.c_proj.bias": (width,),
            **{f"ln_{number}.{part}": (width,) for number in (1, 2) for part in ("weight", "bias")},
        }
        return {
            f"{prefix}transformer.resblocks.{index}.{key}": random(*shape)
            for index in range(count)
            for key, shape in shapes.items()
        }

    state = {
        "positional_embedding": random(77, width),
        "text_projection": random(width, joint),
        "logit_scale": torch.tensor(4.0),
        "visual.class_embedding": random(width),
        "visual.positional_embedding": random(5, width),
        "visual.proj": random(width, joint),
        "visual.conv1.weight": random(width, 3, 14, 14),
        "token_embedding.weight": random(vocabulary, width),
        **{
            f"{norm}.{part}": random(width)
            for norm in ("visual.ln_pre", "visual.ln_post", "ln_final")
            for part in ("weight", "bias")
        },
        **layers("visual.", 3),
        **layers("", 2),
    }
    folder.mkdir(exist_ok=True)
    torch.save({"epoch": 1, "state_dict": state}, folder / name)
    clip_tokenizer().save_pretrained(folder)
    return state


def bert_tokenizer() -> BertTokenizer:
    """Separators at the ids that Grounding DINO knows them by; a few words."""
    special = {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]", 1012: ".", 1029: "?"}
    words = ["red", "blue", "green", "apple", "dog", "cat", "vase", "##s", "a", "the", "-", "'"]
    pieces = [special.get(index, f"[unused{index}]") for index in range(1030)] + words
    return BertTokenizer(vocab={piece: index for index, piece in enumerate(pieces)})


def write_grounding_dino(folder: Path) -> GroundingDinoForObjectDetection:
    tokenizer = bert_tokenizer()
    text = {**TOWER, "vocab_size": len(tokenizer), "max_position_embeddings": 64, "model_type": "bert"}
    backbone = SwinConfig(
        image_size=64,
        patch_size=4,
        embed_dim=16,
        depths=[1, 1, 1, 1],
        num_heads=[2, 2, 2, 2],
        window_size=4,
        out_indices=[2, 3, 4],
    )
    sizes = {
        "d_model": 32,
        "encoder_ffn_dim": 32,
        "decoder_ffn_dim": 32,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 4,
    }
    config = GroundingDinoConfig(
        backbone_config=backbone,
        text_config=text,
        num_queries=12,
        encoder_layers=1,
        decoder_layers=2,
        max_text_len=32,
        **sizes,
    )
    torch.manual_seed(0)
    model = _random(GroundingDinoForObjectDetection(config), 0.05)
    model.save_pretrained(folder)
    images = GroundingDinoImageProcessorPil(size={"shortest_edge": 80, "longest_edge": 128})
    GroundingDinoProcessor(images, tokenizer).save_pretrained(folder)
    return model


def write_owlv2(folder: Path) -> Owlv2ForObjectDetection:
    vision = {**TOWER, "image_size": 64, "patch_size": 16}
    config = Owlv2Config(
        text_config=_clip_text(16), vision_config=vision, projection_dim=TOWER["hidden_size"]
    )
    torch.manual_seed(0)
    model = _random(Owlv2ForObjectDetection(config), 0.05)
    with torch.no_grad():
        for weight in model.owlv2.text_model.encoder.parameters():
            weight.mul_(6)  # queries differ
        model.box_head.dense2.weight.mul_(0.02)  # boxes stay near their patches
        model.class_head.logit_shift.weight.mul_(0.1)  # scores near a half
        model.class_head.logit_scale.bias.fill_(3)
    model.save_pretrained(folder)
    Owlv2Processor(
        Owlv2ImageProcessorPil(size={"height": 64, "width": 64}), clip_tokenizer()
    ).save_pretrained(folder)
    return model
