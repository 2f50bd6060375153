"""The experts of T2I-CompBench in `harness.bench gpu`: images per second of random full-size models."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from benchmarks.t2i_compbench.models.blip import IMAGE_SIZE
from benchmarks.t2i_compbench.models.frame import SHORT
from benchmarks.t2i_compbench.races import unidet, vqa
from harness.experts.similarity.clip import Clip
from harness.protocols import GpuPhase, Measured
from harness.types import Chain, Prompt, Sample, Tokens

if TYPE_CHECKING:
    from benchmarks.t2i_compbench.models.unidet.sizes import Sizes as UniDetSizes

BATCH = 32  # images at once, of BLIP, CLIP and the depth model
HYBRID = {  # of dpt-hybrid-midas, where transformers' defaults differ
    "is_hybrid": True,
    "neck_hidden_sizes": [256, 512, 768, 768],
    "readout_type": "project",
}


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What the phases run.

    Attributes:
        detectors: the two UniDets; None: the published ones.
        detected: images that each looks at, and their sides in pixels.
        blip: width, layers and side in pixels.
        clip: settings of transformers' CLIPConfig; its defaults are ViT-B/32.
        depth: settings of transformers' DPTConfig.
        images: for BLIP, CLIP and the depth model.
        side: of these images, in pixels.
    """

    detectors: tuple[UniDetSizes, ...] | None = None
    detected: tuple[int, int] = (unidet.MANY, SHORT)
    blip: tuple[int, int, int] = (768, 12, IMAGE_SIZE)
    clip: Mapping[str, Any] = field(default_factory=dict)
    depth: Mapping[str, Any] = field(default_factory=lambda: HYBRID)
    images: int = 128
    side: int = 384


def phases(device: str, sizes: Sizes | None = None) -> Iterator[GpuPhase]:
    """The phases of the detectors, BLIP-VQA, CLIP and the depth model."""
    of = sizes or Sizes()
    for number, detector in enumerate(of.detectors or unidet.published()):
        yield GpuPhase(
            name=f"UniDet {detector.variant.upper()}",
            run=partial(_detector, detector, device, *of.detected),
            seconds=12,
            importance=50 + number,
            gigabytes=12,
        )
    experts: dict[str, Callable[[Sizes, str], Iterator[Measured]]] = {
        "BLIP-VQA": _blip,
        "CLIP": _clip,
        "DPT": _depth,
    }
    for number, (name, run) in enumerate(experts.items()):
        yield GpuPhase(
            name=name, run=partial(run, of, device), seconds=12, importance=52 + number, gigabytes=12
        )


def _detector(detector: UniDetSizes, device: str, count: int, side: int) -> Iterator[Measured]:
    import torch

    seconds = unidet.timed(partial(unidet.random_model, detector), torch.device(device), count, side)
    yield _rate(count, seconds["images"], f"{side} x {side} pixels, {unidet.BATCH} at a time")


def _blip(sizes: Sizes, device: str) -> Iterator[Measured]:
    width, layers, side = sizes.blip
    work = vqa.Work(sizes.images, vqa.random_blip(width, layers, side).to(device))
    ask = work.ways()["ours"]
    ask()  # the first one loads kernels
    seconds, answers = _timed(ask)
    asked = sum(map(len, answers))
    yield _rate(sizes.images, seconds, f"{asked} questions, {side} x {side} pixels, {vqa.BATCH} at a time")


def _clip(sizes: Sizes, device: str) -> Iterator[Measured]:
    from transformers import CLIPConfig, CLIPModel

    with tempfile.TemporaryDirectory() as folder:
        CLIPModel(CLIPConfig(**sizes.clip)).save_pretrained(folder)
        serving = {"device": device, "batch_size": BATCH}
        expert = Clip(model=folder, dtype="float32", long_texts="cut", serving=serving)
        images = _images(sizes)
        expert.image_features(images[:BATCH])
        seconds, _ = _timed(partial(expert.image_features, images))
    yield _rate(sizes.images, seconds, f"images of {sizes.side} pixels, resized by PIL, {BATCH} at a time")


def _depth(sizes: Sizes, device: str) -> Iterator[Measured]:
    from transformers import DPTConfig, DPTForDepthEstimation

    from benchmarks.t2i_compbench.models.dpt import SIDE, DptHybrid

    with tempfile.TemporaryDirectory() as folder:
        DPTForDepthEstimation(DPTConfig(**sizes.depth)).save_pretrained(folder)
        serving = {"device": device, "batch_size": BATCH}
        expert = DptHybrid(model=folder, serving=serving, where="depth")
        samples = [_sample(image) for image in _images(sizes)]
        expert.depth(samples[:BATCH])
        seconds, _ = _timed(partial(expert.depth, samples))
    yield _rate(sizes.images, seconds, f"{SIDE} x {SIDE} pixels, {BATCH} at a time")


def _images(sizes: Sizes) -> list[Image.Image]:
    random = np.random.default_rng(0)
    levels = random.integers(0, 256, (sizes.images, sizes.side, sizes.side, 3), dtype=np.uint8)
    return [Image.fromarray(one) for one in levels]


def _sample(image: Image.Image) -> Sample:
    return Sample(
        prompt=Prompt(id="0", text="a dog", category="color"),
        chain=Chain(text="", objects=(), bare_text=""),
        image=image,
        tokens=Tokens(prompt=(), chain=(), image=()),
        logprobs=(),
        seed=None,
    )


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of the work, whose result is on the CPU, and the result."""
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


def _rate(count: int, seconds: float, note: str) -> Measured:
    return Measured(name="images", value=count / seconds, unit="images/s", note=f"random, float32, {note}")
