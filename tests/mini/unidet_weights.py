"""The reference runs of UniDet: weights and pictures by their recipe, and how far a tensor is from
the sampled one.

The weights are made once a process (RS200: 120 million numbers, some seconds): read them, never
write to them.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

VARIANTS = ("rs200", "r50")


@cache
def reference(conformance_dir: Path, variant: str) -> dict[str, Any]:
    """What the official model gave, sampled; the test is skipped where the file is absent."""
    return _read(conformance_dir, f"unidet_{variant}_reference.json")


@cache
def official_shapes(conformance_dir: Path, variant: str) -> dict[str, list[int]]:
    """Name -> shape of every tensor of the official model."""
    return _read(conformance_dir, f"unidet_{variant}_state_dict_keys.json")["keys"]


@cache
def official_state(conformance_dir: Path, variant: str) -> dict[str, Tensor]:
    """The weights of the reference run, float32, under the official names."""
    meta = reference(conformance_dir, variant)["meta"]
    shapes = official_shapes(conformance_dir, variant)
    return {
        key: weight(key, shape, bias=meta["CLS_BIAS"], gain=meta["CLS_GAIN"]) for key, shape in shapes.items()
    }


def weight(key: str, shape: list[int], *, bias: float, gain: float) -> Tensor:
    """One tensor by the recipe; `bias` and `gain` are those of the class scores."""
    part = key.rpartition(".")[2]
    if part == "num_batches_tracked":
        return torch.tensor(0)
    raw = np.random.RandomState(zlib.crc32(key.encode())).standard_normal(shape)
    if part == "running_var":
        raw = np.exp(0.1 * raw)
    elif part == "running_mean":
        raw *= 0.05
    elif part == "bias":
        raw = bias + 0.3 * raw if "cls_score" in key else 0.05 * raw
    elif any(name in key for name in (".norm.", ".bn0.", ".bn1.")):
        raw = (0.2 if ".conv3.norm." in key else 1) * (1 + 0.05 * raw)
    else:
        raw *= math.sqrt(2 / math.prod(shape[1:])) * _gain(key, gain)
    return torch.from_numpy(raw.astype(np.float32))


def _gain(key: str, classes: float) -> float:
    if key == "backbone.bottom_up.stem.conv1.weight":
        return 1 / 60
    gains = {"cls_score": classes, "bbox_pred": 0.2, "anchor_deltas": 0.1}
    return next((gain for name, gain in gains.items() if name in key), 1)


def image(height: int, width: int, seed: int) -> Tensor:
    """A picture of waves, float32 [3, height, width] of whole numbers 0..255, in the channel order
    the weights want.
    """
    noise, (y, x) = np.random.RandomState(seed), np.mgrid[:height, :width]
    channels = []
    for _ in range(3):
        a, p = noise.uniform(0.02, 0.12, 4), noise.uniform(0, 6.28, 3)
        wave = (
            60 * np.sin(a[0] * x + p[0])
            + 40 * np.sin(a[1] * y + p[1])
            + 25 * np.sin(a[2] * x + a[3] * y + p[2])
        )
        channels.append(np.clip(np.round(127.5 + wave), 0, 255))
    return torch.tensor(np.stack(channels), dtype=torch.float32)


def images(conformance_dir: Path, variant: str) -> list[Tensor]:
    """The pictures of the reference run, each held against its check sum and first pixels."""
    made = []
    for stated in reference(conformance_dir, variant)["images"]:
        made.append(image(stated["h"], stated["w"], stated["seed"]))
        assert made[-1].sum(dtype=torch.float64).item() == stated["checksum_sum"]
        assert made[-1][:, 0, :4].tolist() == stated["first_pixels"]
    return made


def distance(found: Tensor, sampled: Mapping[str, Any]) -> float:
    """The largest difference at the sampled places, as a share of the largest value of the whole;
    shapes must be equal.
    """
    assert list(found.shape) == sampled["shape"]
    values = found.flatten()[sampled["flat_index"]].double()
    return (values - torch.tensor(sampled["values"], dtype=torch.float64)).abs().max().item() / sampled[
        "absmax"
    ]


def _read(conformance_dir: Path, name: str) -> dict[str, Any]:
    file = conformance_dir / "unidet" / name
    if not file.is_file():
        pytest.skip(f"there is no {file}")
    return json.loads(file.read_text(encoding="utf-8"))
