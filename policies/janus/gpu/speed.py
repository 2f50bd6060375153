"""Speed at real size: loading a checkpoint, rollouts beside what the device allows, decoding of images."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

from harness.protocols import Measured
from policies.janus import checkpoint, floor, real_size, vq
from policies.janus.bench import TimedEngine
from policies.janus.gpu.checks import timed_rollout
from policies.janus.gpu.subject import Load, model, special
from policies.janus.real_size import Size

SHARE = 40.0  # per cent of what the device allows: the aim for rollouts


def checkpoint_folder(size: Size, folder: Path) -> Path:
    """The folder of a random checkpoint in the published layout; written if it is missing."""
    target = folder / f"janus-{size.name}"
    if not (target / real_size.INDEX).is_file():  # it is written last
        real_size.write(target, size)
    return target


def loading(size: Size, folder: Path, device: str) -> Iterator[Measured]:
    """Seconds to write the checkpoint of bfloat16 weights, and to load it to the device."""
    began = time.perf_counter()
    target = checkpoint_folder(size, folder)
    written = time.perf_counter()
    made = checkpoint.load(target, torch.bfloat16, device)
    floor.now(made.lm_head.weight)
    loaded = time.perf_counter()
    gigabytes = sum(file.stat().st_size for file in target.glob("*.safetensors")) / 2**30
    yield Measured(name="write", value=written - began, unit="s", note=f"{gigabytes:.1f} GB")
    yield Measured(name="load", value=loaded - written, unit="s", note="just written, so read from memory")


def rollout(size: Size, load: Load, device: str) -> Iterator[Measured]:
    """Tokens per second of chains and images, and their share of the floor (`policies.janus.floor`)."""
    rates = floor.measured_rates(torch.bfloat16, device)
    engine = TimedEngine(model(size, torch.bfloat16, device), **special(size))
    seconds = timed_rollout(engine, size, load, device)
    least = floor.seconds(load.floor_work(size), torch.bfloat16, rates)
    tokens = {"chain": load.rows * load.chain, "image": load.rows * size.side**2}
    yield Measured(
        name="reading", value=rates.bytes_s / 1e9, unit="GB/s", note="of a long sum, for the floor"
    )
    yield Measured(
        name="multiplying", value=rates.flops_s / 1e12, unit="TFLOP/s", note="bfloat16, for the floor"
    )
    for part, count in tokens.items():
        note = f"{load.rows} rows, guidance {load.guidance:g}, {count // load.rows} tokens each"
        yield Measured(name=f"{part} tokens", value=count / seconds[part], unit="tokens/s", note=note)
        share = 100 * least[part] / seconds[part]
        yield Measured(name=f"{part}, share of the floor", value=share, unit="%")
    share = 100 * sum(least.values()) / sum(seconds.values())
    yield Measured(name="rollout, share of the floor", value=share, unit="%", aim=SHARE)


def decode(size: Size, images: int, device: str) -> Iterator[Measured]:
    """Images per second of the image tokenizer's decoder, in float32."""
    tower = model(replace(size, layers=1), torch.bfloat16, device).model.vqmodel
    generator = torch.Generator().manual_seed(0)
    codes_BT = torch.randint(size.codes, (images, size.side**2), generator=generator)
    codes = [tuple(row) for row in codes_BT.tolist()]
    vq.decode(tower, codes[: vq.at_a_time(tower)])  # the first one loads kernels
    began = time.perf_counter()
    vq.decode(tower, codes)
    seconds = time.perf_counter() - began
    note = f"{images} images of {size.image_size} x {size.image_size}, {vq.at_a_time(tower)} at a time"
    yield Measured(name="images", value=images / seconds, unit="images/s", note=note)
