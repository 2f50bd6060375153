"""A tiny random DPT hybrid as a folder that `from_pretrained` reads."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import BitConfig, DPTConfig, DPTForDepthEstimation


def write_dpt(folder: Path, *, flat: bool = False) -> None:
    """Positions for 384 pixels, as in the published one; `flat` sees no depth."""
    backbone = BitConfig(
        embedding_size=8,
        hidden_sizes=[8, 16, 16],
        depths=[1, 1, 1],
        num_groups=4,
        layer_type="bottleneck",
        global_padding="same",
        embedding_dynamic_padding=True,
        out_features=["stage1", "stage2", "stage3"],
    )
    config = DPTConfig(
        is_hybrid=True,
        backbone_config=backbone,
        backbone_featmap_shape=[1, 16, 24, 24],
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        backbone_out_indices=[0, 1, 0, 1],
        neck_hidden_sizes=[8, 16, 8, 8],
        fusion_hidden_size=8,
        use_auxiliary_head=False,
    )
    torch.manual_seed(0)
    model = DPTForDepthEstimation(config)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn(weight.shape, generator=generator), alpha=0.2)
        model.head.head[-2].bias.fill_(0 if flat else 5)  # what comes out is cut at 0
        model.head.head[-2].weight.mul_(0 if flat else 1)
    model.save_pretrained(folder)
