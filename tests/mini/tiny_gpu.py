"""The sizes of a tiny Janus, and work for it, for the phases of `harness.bench gpu`."""

from __future__ import annotations

from policies.janus.gpu.bench import SMALL_SIGLIP, Sizes
from policies.janus.gpu.subject import Load
from policies.janus.real_size import Size

TINY = Size(
    name="tiny",
    hidden=32,
    inner=48,
    layers=2,
    heads=2,
    base=300,
    vocabulary=1000,
    pad=2,
    codes=30,
    side=3,
    vq={"ch": 32, "ch_mult": [1, 1, 1], "z_channels": 32, "num_res_blocks": 1},
    siglip=SMALL_SIGLIP,
)
LOAD = Load(rows=4, group=2, prompt=6, chain=5)
SIZES = Sizes(small=TINY, one=TINY, seven=TINY, equality=LOAD, gap=LOAD, rollout=LOAD, decoded=3)
