"""Tiny random UniDets as the files that a user would have: all 722 classes, one block a stage, a
few channels.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from unidet_weights import weight

from benchmarks.t2i_compbench.models.unidet.model import UniDetModel
from benchmarks.t2i_compbench.models.unidet.sizes import Sizes

CLASSES = 722
TINY = {
    "blocks": (1, 1, 1, 1),
    "widths": (4, 6, 8, 10),
    "outputs": (8, 12, 16, 20),
    "features": 8,
    "hidden": 16,
    "classes": CLASSES,
}
SIZES = {
    "rs200": Sizes(variant="rs200", stem=(4, 4, 8), **TINY),
    "r50": Sizes(variant="r50", stem=(4,), **TINY),
}

GAINS = {"rs200": 2, "r50": 0.5}  # of the class scores, whose vectors are shorter in the first


def unidet_state(variant: str) -> dict[str, Tensor]:
    """Random weights under the official names, always the same; in a picture that is not plain they
    detect something.
    """
    with torch.device("meta"):
        model = UniDetModel(SIZES[variant])
    return {
        key: weight(key, [*value.shape], bias=-3, gain=GAINS[variant])
        for key, value in model.state_dict().items()
    }


def write_unidet(file: Path, variant: str) -> None:
    """A training checkpoint as detectron2 saves it, constants and counts among the weights; about 0.4 MB."""
    constants = {"pixel_mean": torch.zeros(3, 1, 1), "pixel_std": torch.ones(3, 1, 1)}
    anchors = {
        f"proposal_generator.anchor_generator.cell_anchors.{level}": torch.zeros(9, 4) for level in range(5)
    }
    training = {
        "optimizer": {"state": {}, "param_groups": []},
        "scheduler": {"last_epoch": 1},
        "iteration": 1,
    }
    torch.save({"model": {**constants, **unidet_state(variant), **anchors}, **training}, file)
