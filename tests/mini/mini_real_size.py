"""Models of `harness.bench real_size` that take seconds."""

from __future__ import annotations

from dataclasses import replace

from harness.protocols import RealSize
from policies.janus import real_size
from policies.janus.real_size import Size

TINY = Size(
    name="tiny",
    hidden=64,
    inner=176,
    layers=3,
    heads=4,
    base=320,
    vocabulary=1024,
    pad=2,
    codes=64,
    side=4,
    vq={"ch": 32, "ch_mult": [1, 1, 2], "z_channels": 32, "num_res_blocks": 2},
    siglip={"width": 32, "layers": 2, "heads": 2, "patch_size": 4, "mlp_ratio": 2},
)


def models() -> list[RealSize]:
    short = replace(TINY, name="short", layers=1)
    return [
        real_size.model(TINY, ("load", "draw", "grpo"), "preset=paper_1b", "policies.weights=bfloat16"),
        real_size.model(short, ("sft",), "preset=paper_1b"),
        real_size.model(
            replace(TINY, name="large"), ("load", "chain"), "preset=paper_7b", "policies.weights=bfloat16"
        ),
    ]
