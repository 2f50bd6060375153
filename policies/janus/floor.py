"""The least time in which a device can do a rollout, from its rates of reading and of multiplying."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Work:
    """A rollout: sizes of the decoder, and numbers of tokens.

    `group` samples share a prompt of `prompt` tokens; each has `chain` and `image` tokens, with guidance.
    """

    hidden: int
    inner: int
    layers: int
    vocabulary: int
    codes: int
    samples: int
    group: int
    prompt: int
    chain: int
    image: int

    @property
    def core(self) -> int:
        """The weights of all layers that a token is multiplied by."""
        return self.layers * (4 * self.hidden**2 + 3 * self.hidden * self.inner)


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Bytes read and floating-point operations per second."""

    bytes_s: float
    flops_s: float


def seconds(work: Work, dtype: torch.dtype, rates: Rates) -> dict[str, float]:
    """The least seconds of `chain` (with the prompts) and of `image` (with the unconditional prefix).

    Each step reads all its weights once, and the keys and values of every row (one copy of prompts and of the
    unconditional prefix). The slower of reading and multiplying counts; for prompts only multiplying.
    """
    samples, prompts = work.samples, work.samples // work.group
    text = work.core + work.hidden * work.vocabulary
    image = work.core + work.hidden**2 + work.hidden * work.codes

    def step_s(rows: int, weights: int, read: int, seen: int) -> float:
        width = work.layers * work.hidden
        reading = (weights + 2 * width * read) * dtype.itemsize / rates.bytes_s
        return max(reading, (2 * rows * weights + 4 * width * seen) / rates.flops_s)

    prefix = work.prompt + work.chain
    chain_s = 2 * work.core * prompts * work.prompt / rates.flops_s
    for step in range(work.chain):
        read = prompts * work.prompt + samples * step
        chain_s += step_s(samples, text, read, samples * (work.prompt + step))
    image_s = 2 * work.core * prefix / rates.flops_s
    for step in range(work.image):
        tails = 2 * samples * step
        read = tails + samples * work.chain + prompts * work.prompt + prefix
        image_s += step_s(2 * samples, image, read, tails + 2 * samples * prefix)
    return {"chain": chain_s, "image": image_s}


def measured_rates(dtype: torch.dtype, device: str) -> Rates:
    """The rates of a long sum, and of a large matrix product."""
    side, length = (8192, 2**28) if device == "cuda" else (2048, 2**26)  # launches must not count
    vector = torch.ones(length, dtype=torch.float32, device=device)
    square = torch.ones(side, side, dtype=dtype, device=device)
    product_s = _best_s(lambda: square @ square, vector)
    return Rates(bytes_s=vector.nbytes / _best_s(vector.sum, vector), flops_s=2 * side**3 / product_s)


def _best_s(work: Callable[[], object], like: Tensor) -> float:
    found = []
    for _ in range(4):
        begun = now(like)
        work()
        found.append(now(like) - begun)
    return min(found)


def now(like: Tensor) -> float:
    """Seconds of a clock, once the GPU of `like` has done its work."""
    if like.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter()
