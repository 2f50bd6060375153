"""Random draws of a rollout: one generator per sample, or upstream's single stream.

With a generator per sample a sample's tokens depend on its prompt and seed alone, never on the batch
it was drawn in: all its uniform numbers are drawn at once and a token is read off the inverse CDF.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from harness.protocols import Sampling


class Draw(Protocol):
    def chain(self, logits_BV: Tensor, step: int) -> Tensor: ...

    def image(self, logits_BV: Tensor, step: int) -> Tensor: ...


class PerSample:
    """Inverse-CDF draws; uniform t of a sample belongs to chain step t, then to the image steps."""

    def __init__(self, seeds: Sequence[int], sampling: Sampling, image_tokens: int, device: torch.device) -> None:
        count = sampling.max_chain_tokens + image_tokens
        rows = [torch.rand(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) for seed in seeds]
        self._uniforms_BT = torch.stack(rows).to(device)
        self._sampling = sampling

    def chain(self, logits_BV: Tensor, step: int) -> Tensor:
        return self._pick(logits_BV, self._sampling.text_temperature, step)

    def image(self, logits_BV: Tensor, step: int) -> Tensor:
        return self._pick(logits_BV, self._sampling.image_temperature, self._sampling.max_chain_tokens + step)

    def _pick(self, logits_BV: Tensor, temperature: float, column: int) -> Tensor:
        if temperature == 0:
            return logits_BV.argmax(-1)
        cdf = torch.softmax(logits_BV.double() / temperature, -1).cumsum(-1)
        target = self._uniforms_BT[:, column : column + 1] * cdf[:, -1:]
        return torch.searchsorted(cdf, target, right=True).squeeze(-1).clamp_(max=cdf.shape[-1] - 1)


class Upstream:
    """GoT-R1's script: one seeded stream, one multinomial call a step over all rows."""

    def __init__(self, seeds: Sequence[int], sampling: Sampling, device: torch.device) -> None:
        self._generator = torch.Generator(device).manual_seed(seeds[0])
        self._sampling = sampling

    def chain(self, logits_BV: Tensor, step: int) -> Tensor:
        return self._pick(logits_BV, self._sampling.text_temperature)

    def image(self, logits_BV: Tensor, step: int) -> Tensor:
        return self._pick(logits_BV, self._sampling.image_temperature)

    def _pick(self, logits_BV: Tensor, temperature: float) -> Tensor:
        if temperature == 0:
            return logits_BV.argmax(-1)
        return torch.multinomial(torch.softmax(logits_BV / temperature, -1), 1, generator=self._generator).squeeze(-1)


def draw(seeds: Sequence[int], sampling: Sampling, image_tokens: int, device: torch.device) -> Draw:
    if sampling.random == "per_sample":
        return PerSample(seeds, sampling, image_tokens, device)
    if len(set(seeds)) != 1:
        raise ValueError("rollout.random=upstream draws all samples from one stream: give every sample the same seed")
    return Upstream(seeds, sampling, device)
