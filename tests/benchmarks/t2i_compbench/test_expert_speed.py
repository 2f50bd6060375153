"""The experts of T2I-CompBench in `harness.bench gpu`, here on the CPU and tiny."""

from __future__ import annotations

import mini_unidet
import torch

from benchmarks.t2i_compbench.races import gpu

torch.set_num_threads(1)

TOWER = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
BIT = {
    "model_type": "bit",
    "embedding_size": 8,
    "hidden_sizes": [8, 16, 16],
    "depths": [1, 1, 1],
    "num_groups": 4,
    "layer_type": "bottleneck",
    "global_padding": "same",
    "embedding_dynamic_padding": True,
    "out_features": ["stage1", "stage2", "stage3"],
}
TINY = gpu.Sizes(
    detectors=tuple(mini_unidet.SIZES.values()),
    detected=(2, 64),
    blip=(64, 1, 32),
    clip={
        "text_config": {**TOWER, "vocab_size": 50, "bos_token_id": 1, "eos_token_id": 2},
        "vision_config": {**TOWER, "image_size": 16, "patch_size": 8},
        "projection_dim": 8,
    },
    depth={
        **gpu.HYBRID,
        "backbone_config": BIT,
        "backbone_featmap_shape": [1, 16, 24, 24],
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "backbone_out_indices": [0, 1, 0, 1],
        "neck_hidden_sizes": [8, 16, 8, 8],
        "fusion_hidden_size": 8,
    },
    images=3,
    side=40,
)


def test_every_expert_looks_at_all_images():
    phases = list(gpu.phases("cpu", TINY))
    assert [phase.name for phase in phases] == ["UniDet RS200", "UniDet R50", "BLIP-VQA", "CLIP", "DPT"]
    for phase in phases:
        (measured,) = phase.run()
        assert measured.unit == "images/s" and 0 < measured.value < float("inf")


def test_the_published_detectors_are_measured_by_default():
    names = [phase.name for phase in gpu.phases("cpu")]
    assert names[:2] == ["UniDet R50", "UniDet RS200"]
