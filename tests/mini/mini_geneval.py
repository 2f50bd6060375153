"""Tiny random models of GenEval as folders that `from_pretrained` reads: Mask2Former and CLIP."""

from __future__ import annotations

from pathlib import Path

import mini_scorers
import torch
from transformers import CLIPModel, Mask2FormerConfig, Mask2FormerForUniversalSegmentation, SwinConfig

CLASSES = 80


def write_mask2former(folder: Path) -> Mask2FormerForUniversalSegmentation:
    """Six queries, sure of themselves, whose masks differ from picture to picture."""
    stages = ["stage1", "stage2", "stage3", "stage4"]
    backbone = SwinConfig(
        patch_size=4,
        embed_dim=8,
        depths=[1, 1, 1, 1],
        num_heads=[1, 1, 2, 2],
        window_size=7,
        out_features=stages,
    )
    widths = (
        "feature_size",
        "mask_feature_size",
        "hidden_dim",
        "encoder_feedforward_dim",
        "dim_feedforward",
    )  # norms have 32 groups
    layers = {"encoder_layers": 1, "decoder_layers": 2, "num_attention_heads": 4, "num_queries": 6}
    config = Mask2FormerConfig(
        backbone_config=backbone, num_labels=CLASSES, **dict.fromkeys(widths, 32), **layers
    )
    torch.manual_seed(0)
    model = Mask2FormerForUniversalSegmentation(config).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn(weight.shape, generator=generator), alpha=0.1)
        model.class_predictor.weight.mul_(6)
        for weight in model.model.transformer_module.decoder.mask_predictor.parameters():
            weight.mul_(3)
    model.save_pretrained(folder)
    return model


def write_clip_l(folder: Path) -> CLIPModel:
    """What stands for CLIP ViT-L/14: 28 pixels, letters for words."""
    return mini_scorers.write_clip(folder)
