"""The published files of UniDet (`Unified_learned_OCIM_{RS200,R50}_6x+2x.pth`); the sizes come from
the tensors.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from benchmarks.t2i_compbench.models.unidet.layers import fold_norms
from benchmarks.t2i_compbench.models.unidet.model import UniDetModel
from benchmarks.t2i_compbench.models.unidet.sizes import Sizes
from harness.experts.weights import check_names, count_layers, read_tensors

NAMES = {"rs200": "UniDet RS200", "r50": "UniDet R50"}
_STEMS: dict[Literal["rs200", "r50"], tuple[str, ...]] = {
    "rs200": ("conv1_1", "conv1_2", "conv1_3"),
    "r50": ("conv1",),
}
_STAGES = ("res2", "res3", "res4", "res5")
_UNREAD = re.compile(
    r"(.*\.)?(num_batches_tracked|pixel_mean|pixel_std|cell_anchors\.\d+)"
)  # no weights: constants and counts


def load(path: Path) -> UniDetModel:
    """The detector of a file, frozen, in float32 on the CPU.

    Raises:
        ValueError: the file cannot be read, or holds something else; says what.
    """
    return unidet_model(read_checkpoint(path))


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """The tensors under `model`, as detectron2 saves them, or a file of nothing but tensors; code in the
    file is never run.

    Raises:
        ValueError: it is no such file; says what it holds.
    """
    return read_tensors(path, "model", bare=True)


def sizes_of(state: Mapping[str, Tensor]) -> Sizes:
    """What the tensors tell of the detector that they belong to.

    Raises:
        ValueError: they belong to none.
    """
    trunk, head = "backbone.bottom_up", "roi_heads.box_head.0"
    found = [variant for variant, names in _STEMS.items() if f"{trunk}.stem.{names[0]}.weight" in state]
    if not found:
        held = ", ".join(list(state)[:3]) or "nothing"
        raise ValueError(
            f"these are not the weights of a UniDet: there is no {trunk}.stem of RS200 or R50; there "
            f"is {held}"
        )
    return Sizes(
        variant=found[0],
        stem=tuple(_rows(state, f"{trunk}.stem.{name}") for name in _STEMS[found[0]]),
        blocks=tuple(count_layers(state, f"{trunk}.{stage}.") for stage in _STAGES),
        widths=tuple(_rows(state, f"{trunk}.{stage}.0.conv1") for stage in _STAGES),
        outputs=tuple(_rows(state, f"{trunk}.{stage}.0.conv3") for stage in _STAGES),
        features=_rows(state, "backbone.fpn_output3"),
        hidden=_rows(state, f"{head}.fc1"),
        classes=_rows(state, "roi_heads.box_predictor.0.cls_score") - 1,
    )


def unidet_model(state: Mapping[str, Tensor]) -> UniDetModel:
    """The detector with these weights, frozen, in float32; its norms are in its convolutions, so that it
    is quicker.

    Args:
        state: tensors under their official names; stored constants and counts (pixel means, anchors) are
            not read.

    Raises:
        ValueError: names are missing or left over, or shapes do not belong together; names a few.
    """
    state = {name: value for name, value in state.items() if not _UNREAD.fullmatch(name)}
    sizes = sizes_of(state)
    with torch.device("meta"):
        model = UniDetModel(sizes)
    wanted = {name: value.shape for name, value in model.state_dict().items() if not _UNREAD.fullmatch(name)}
    check_names(state, wanted, NAMES[sizes.variant])
    for name, shape in wanted.items():
        if state[name].shape != shape:
            raise ValueError(
                f"the shapes of these weights are not those of one UniDet: {name} is "
                f"{[*state[name].shape]} in place of {[*shape]}"
            )
    model.load_state_dict({name: _quick(value.float()) for name, value in state.items()}, assign=True)
    fold_norms(model)
    return model.requires_grad_(False).eval()


def _quick(value: Tensor) -> Tensor:
    """As convolutions like their weights best, on CPUs too; their outputs follow."""
    return value.contiguous(memory_format=torch.channels_last) if value.ndim == 4 else value


def _rows(state: Mapping[str, Tensor], module: str) -> int:
    rows = state[f"{module}.weight"].shape[:1] if f"{module}.weight" in state else ()
    if not rows:
        raise ValueError(f"these are not the weights of a UniDet: {module}.weight is missing")
    return rows[0]
