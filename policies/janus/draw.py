"""Random draws of a rollout: one generator per sample, or upstream's single stream.

With one generator per sample, a sample's tokens depend only on its prompt and seed, never on its batch: all
its uniform numbers are drawn at once, and the inverse CDF turns each into a token.

Shapes: B samples, V ids (text vocabulary or image codes).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from harness.types import Sampling
from policies.janus import compiled

Rows = Tensor | slice  # numbers of rows, or all of them
ALL = slice(None)


class Draw(Protocol):
    """Samples one id per row from raw logits; returns ids [B] and their log-probs [B] (`chosen_logprob`)."""

    def chain(self, logits_BV: Tensor, step: int, rows: Rows = ALL) -> tuple[Tensor, Tensor]:
        """`logits_BV` are those of the samples in `rows`."""
        ...

    def image(self, logits: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """`logits` are [B, V], or [2 * B, V] with guidance, as for `guide`."""
        ...


class Given:
    """Chains that are given instead of sampled. The images are drawn as `draws` draws them.

    Args:
        ids: of each chain, without a forced begin-of-image.
        draws: draws the images.
        temperature: of the text, for the log-probs.
        skip: whether each chain step also takes the random numbers that sampling it would take, so that the
            images get theirs.
        device: the torch device of the logits.
    """

    def __init__(
        self,
        ids: Sequence[Sequence[int]],
        draws: Draw,
        temperature: float,
        *,
        skip: bool,
        device: torch.device,
    ) -> None:
        longest = max(map(len, ids))
        padded = [[*row, *[0] * (longest - len(row))] for row in ids]  # the engine hides what follows an end
        self._ids_BT = torch.tensor(padded, device=device)
        self._draws, self._temperature, self._skip = draws, temperature, skip

    def chain(self, logits_BV: Tensor, step: int, rows: Rows = ALL) -> tuple[Tensor, Tensor]:
        if self._skip:
            self._draws.chain(logits_BV, step, rows)
        ids_B = self._ids_BT[rows, step]
        return ids_B, chosen_logprob(logits_BV, ids_B, self._temperature)

    def image(self, logits: Tensor, step: int) -> tuple[Tensor, Tensor]:
        return self._draws.image(logits, step)


class PerSample:
    """Inverse-CDF draws. Uniform number t of a sample belongs to chain step t; those after to image steps."""

    def __init__(
        self, seeds: Sequence[int], sampling: Sampling, image_tokens: int, device: torch.device
    ) -> None:
        count = sampling.max_chain_tokens + image_tokens
        rows = [
            torch.rand(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
            for seed in seeds
        ]
        self._uniforms_BT = torch.stack(rows).to(device)
        self._sampling = sampling

    def chain(self, logits_BV: Tensor, step: int, rows: Rows = ALL) -> tuple[Tensor, Tensor]:
        return self._pick(logits_BV, self._sampling.text_temperature, self._uniforms_BT[rows, step])

    def image(self, logits: Tensor, step: int) -> tuple[Tensor, Tensor]:
        guided_BV = guide(logits, self._sampling.guidance)
        uniforms_B = self._uniforms_BT[:, self._sampling.max_chain_tokens + step]
        return self._pick(guided_BV, self._sampling.image_temperature, uniforms_B)

    def _pick(self, logits_BV: Tensor, temperature: float, uniforms_B: Tensor) -> tuple[Tensor, Tensor]:
        if temperature == 0:
            return _greedy(logits_BV)
        if not logits_BV.is_cuda:
            return compiled.draw(logits_BV, temperature, uniforms_B)
        scaled_BV = logits_BV.float() / temperature
        weights_BV = (scaled_BV - scaled_BV.amax(-1, keepdim=True)).exp_()
        cdf_BV = weights_BV.cumsum(-1, dtype=torch.float64)
        total_B1 = cdf_BV[:, -1:]
        ids_B1 = torch.searchsorted(cdf_BV, uniforms_B[:, None] * total_B1, right=True)
        ids_B1.clamp_(max=logits_BV.shape[-1] - 1)
        return ids_B1[:, 0], (weights_BV.gather(-1, ids_B1).log() - total_B1.log()).float()[:, 0]


class Upstream:
    """The draws of GoT-R1's script: one seeded stream, one multinomial call per step over all rows."""

    def __init__(self, seed: int, sampling: Sampling, device: torch.device) -> None:
        self._generator = torch.Generator(device).manual_seed(seed)
        self._sampling = sampling

    def chain(self, logits_BV: Tensor, step: int, rows: Rows = ALL) -> tuple[Tensor, Tensor]:
        return self._pick(logits_BV, self._sampling.text_temperature)

    def image(self, logits: Tensor, step: int) -> tuple[Tensor, Tensor]:
        return self._pick(guide(logits, self._sampling.guidance), self._sampling.image_temperature)

    def _pick(self, logits_BV: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        if temperature == 0:
            return _greedy(logits_BV)
        probabilities_BV = torch.softmax(logits_BV / temperature, -1)
        ids_B = torch.multinomial(probabilities_BV, 1, generator=self._generator).squeeze(-1)
        return ids_B, chosen_logprob(logits_BV, ids_B, temperature)


def _greedy(logits_BV: Tensor) -> tuple[Tensor, Tensor]:
    ids_B = logits_BV.argmax(-1)
    return ids_B, chosen_logprob(logits_BV, ids_B, 0.0)


def guide(logits: Tensor, guidance: float) -> Tensor:
    """Guided logits u + w (c - u) in float32, from conditional rows c stacked on unconditional rows u.

    For a guidance w <= 1 there are no unconditional rows, and the logits are returned unchanged.
    """
    if guidance <= 1:
        return logits
    conditional, unconditional = logits.float().chunk(2)
    return unconditional + guidance * (conditional - unconditional)


def scale(logits: Tensor, temperature: float) -> Tensor:
    """Logits / temperature in float32; temperature 0 counts as 1."""
    return logits.float() / (temperature or 1.0)


def chosen_logprob(logits: Tensor, ids: Tensor, temperature: float) -> Tensor:
    """Log-prob of `ids` under softmax(logits / temperature) in float32; temperature 0 counts as 1."""
    scaled = scale(logits, temperature)
    return scaled.gather(-1, ids[..., None]).squeeze(-1) - scaled.logsumexp(-1)
