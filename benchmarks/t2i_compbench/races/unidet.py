"""The speed of the two UniDets: networks of published size with random weights.

On a CPU one image of 128 pixels a side, since most of the time goes into the proposals, which are about
as many in a small image; on a GPU images in the frame of T2I-CompBench.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks.t2i_compbench.models.frame import SHORT
from harness import devices
from harness.experts.pretrained import blocks
from harness.protocols import Race

if TYPE_CHECKING:
    import torch

    from benchmarks.t2i_compbench.models.unidet.sizes import Sizes

BATCH, MANY = 8, 32  # images at once, and of a race on a GPU
SMALL = 128  # pixels a side of the one image on a CPU
RARE = -5.0  # of the class scores, so that as good as nothing is detected


def unidet_races() -> Iterator[Race]:
    """One race of one system for each detector."""
    import torch

    from benchmarks.t2i_compbench.models.unidet.checkpoint import NAMES

    device = torch.device(devices.automatic())
    count, side = (MANY, SHORT) if device.type == "cuda" else (1, SMALL)
    for sizes in published():
        yield Race(
            work=f"random {NAMES[sizes.variant]} of full size at {side} x {side} pixels, float32",
            setting=f"{count} images" if count > 1 else "1 image",
            amount=count,
            unit="images",
            counts={},
            count_unit="",
            systems={"ours": partial(timed, partial(random_model, sizes), device, count, side)},
        )


def published() -> tuple[Sizes, Sizes]:
    """Of R50 and RS200."""
    from benchmarks.t2i_compbench.models.unidet.sizes import Sizes

    shared: dict[str, Any] = {
        "widths": (64, 128, 256, 512),
        "outputs": (256, 512, 1024, 2048),
        "features": 256,
        "hidden": 1024,
        "classes": 722,
    }
    return (
        Sizes(variant="r50", stem=(64,), blocks=(3, 4, 6, 3), **shared),
        Sizes(variant="rs200", stem=(64, 64, 128), blocks=(3, 24, 36, 3), **shared),
    )


def random_model(sizes: Sizes) -> torch.nn.Module:
    """Made as from a checkpoint."""
    import torch

    from benchmarks.t2i_compbench.models.unidet.checkpoint import unidet_model
    from benchmarks.t2i_compbench.models.unidet.model import UniDetModel

    torch.manual_seed(0)
    state = UniDetModel(sizes).state_dict()
    for name, value in state.items():
        if name.endswith("cls_score.bias"):
            value.fill_(RARE)
    return unidet_model(state)


def timed(
    make: Callable[[], torch.nn.Module], device: torch.device, count: int, side: int
) -> Mapping[str, float]:
    """Seconds of all images; on a GPU one batch goes before, which is slower than others."""
    import torch

    model = make().to(device)
    generator = torch.Generator().manual_seed(0)
    images = [torch.rand(3, side, side, generator=generator) * 255 for _ in range(count)]
    with torch.inference_mode():
        if device.type == "cuda":
            model([image.to(device) for image in images[:BATCH]])
            torch.cuda.synchronize()
        begun = time.perf_counter()
        for block in blocks(images, BATCH):
            for detected in model([image.to(device) for image in block]):
                detected[1].cpu()
        return {"images": time.perf_counter() - begun}
