"""The speed of GenEval's detector: the network of published size with random weights, and its instance
rule.

On a CPU the race uses one image that the network sees at 256 pixels a side, on a GPU images at GenEval's 800.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from benchmarks.geneval.models.mask2former import SHORT, instances
from harness import devices
from harness.experts.pretrained import blocks
from harness.protocols import GpuPhase, Measured, Race

BATCH, MANY = 8, 32  # images at once, and of a race on a GPU
SMALL = 256  # pixels a side of the one image on a CPU
CLASSES = 80


def mask2former_race() -> Iterator[Race]:
    """One race of one system."""
    import torch

    device = torch.device(devices.automatic())
    count, side = (MANY, SHORT) if device.type == "cuda" else (1, SMALL)
    yield Race(
        work=f"random Mask2Former with Swin-S at {side} x {side} pixels, float32",
        setting=f"{count} images" if count > 1 else "1 image",
        amount=count,
        unit="images",
        counts={},
        count_unit="",
        systems={"ours": partial(timed, device, count, side)},
    )


def phases(device: str, count: int = MANY, side: int = SHORT) -> Iterator[GpuPhase]:
    """The detector's phase in `harness.bench gpu`: `count` images of `side` pixels."""
    yield GpuPhase(
        name="Mask2Former",
        run=partial(_speed, device, count, side),
        seconds=12,
        importance=55,
        gigabytes=12,
    )


def _speed(device: str, count: int, side: int) -> Iterator[Measured]:
    import torch

    seconds = timed(torch.device(device), count, side)["images"]
    note = f"random, Swin-S, {side} x {side} pixels, float32, {BATCH} at a time"
    yield Measured(name="images", value=count / seconds, unit="images/s", note=note)


def random_model() -> Any:
    """Of the published sizes: Swin-S, 100 queries, 80 classes."""
    import torch
    from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, SwinConfig

    torch.manual_seed(0)
    swin = SwinConfig.from_dict(
        {"depths": [2, 2, 18, 2], "out_features": ["stage1", "stage2", "stage3", "stage4"]}
    )
    config = Mask2FormerConfig.from_dict({"backbone_config": swin.to_dict(), "num_labels": CLASSES})
    return Mask2FormerForUniversalSegmentation(config).eval()


def timed(device: Any, count: int, side: int) -> Mapping[str, float]:
    """Seconds of all images; on a GPU one batch goes before, which is slower than others."""
    import torch

    model = random_model().to(device)
    pixels_B3HW = torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(0))
    names = [str(number) for number in range(CLASSES)]
    with torch.inference_mode():
        if device.type == "cuda":
            model(pixel_values=pixels_B3HW[:BATCH].to(device))
            torch.cuda.synchronize()
        begun = time.perf_counter()
        for places in blocks(range(count), BATCH):
            output = model(pixel_values=pixels_B3HW[list(places)].to(device))
            for classes_QK, masks_Qhw in zip(
                output.class_queries_logits, output.masks_queries_logits, strict=True
            ):
                instances(classes_QK, masks_Qhw, (side, side), names, above=0.3)
        return {"images": time.perf_counter() - begun}
