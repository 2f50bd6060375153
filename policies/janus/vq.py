"""The image tokenizer: pixels to codes and back through transformers' JanusVQVAE, and how a small one is trained.

Encoding normalises latents and codebook as the original VQ-16 does; transformers' own `encode` does not
and finds other codes (only its `decode` is right).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from transformers import JanusVQVAE

IMAGES, PIXELS = (
    64,
    2**20,
)  # at a time at most: of 384 x 384 it is 7, whose widest activations take half a GB each
TEMPERATURE = 0.1  # of the similarities when a code is looked for in training
FINDING_WEIGHT = 0.1  # of finding the code beside drawing it


def pixels(images: Sequence[Image.Image]) -> Tensor:
    """[B, 3, height, width] in -1..1."""
    stacked = np.stack([np.asarray(image.convert("RGB")) for image in images])
    return torch.from_numpy(stacked).permute(0, 3, 1, 2).float() / 127.5 - 1


def latents(vq: JanusVQVAE, pixels_BCHW: Tensor) -> Tensor:
    """Unit latents before quantising, [B, tokens, width]."""
    return F.normalize(vq.quant_conv(vq.encoder(pixels_BCHW)).flatten(2).transpose(1, 2), dim=-1)


def nearest(vq: JanusVQVAE, latents_BTD: Tensor) -> Tensor:
    """Code of every latent, [B, tokens]."""
    return (latents_BTD @ F.normalize(vq.quantize.embedding.weight, dim=-1).T).argmax(-1)


def at_a_time(vq: JanusVQVAE) -> int:
    """How many images are encoded or decoded at once, so that memory does not grow with their number."""
    height, width = vq.quantize.quant_state_dims
    levels = len(vq.config.channel_multiplier)
    return min(IMAGES, max(1, PIXELS // (height * width * 4 ** (levels - 1))))


@torch.no_grad()
def encode(vq: JanusVQVAE, images: Sequence[Image.Image]) -> list[tuple[int, ...]]:
    """Codes of every image, row by row from the top left."""
    device, batch = vq.quantize.embedding.weight.device, at_a_time(vq)
    codes: list[tuple[int, ...]] = []
    for start in range(0, len(images), batch):
        block = pixels(images[start : start + batch]).to(device)
        codes += [tuple(row) for row in nearest(vq, latents(vq, block)).tolist()]
    return codes


@torch.no_grad()
def decode(vq: JanusVQVAE, codes: Sequence[tuple[int, ...]]) -> list[Image.Image]:
    """Images of codes; bytes by truncation, as upstream writes them."""
    device, batch = vq.quantize.embedding.weight.device, at_a_time(vq)
    images: list[Image.Image] = []
    for start in range(0, len(codes), batch):
        decoded = vq.decode(torch.tensor(codes[start : start + batch], device=device)).float()
        scaled = ((decoded + 1) / 2 * 255).clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()
        images += [Image.fromarray(array) for array in scaled]
    return images


class Training:
    """Trains a small VQ so that patches that look the same get the same code, wherever they stand.

    Left to itself a convolutional VQ of this size spreads what a patch shows over its neighbours: one
    white patch has many codes, and a policy cannot learn which. So the codes are settled first, by
    k-means over the patches themselves; then the encoder learns to find a patch's code and the decoder to
    draw it. Rare patches weigh more than their share, or the background would drown them.
    """

    def __init__(
        self,
        vq: JanusVQVAE,
        images: Tensor,
        *,
        learning_rate: float,
        steps: int,
        batch_size: int,
        seed: int,
    ) -> None:
        self.vq, self.steps = vq, steps
        self._images, self._size, self._seed = images, batch_size, seed
        self._side = vq.quantize.quant_state_dims[0]
        entries = vq.quantize.embedding
        generator = torch.Generator().manual_seed(seed)
        self._codes_NT = kmeans(patches(images, self._side), entries.num_embeddings, generator).view(
            len(images), -1
        )
        counts = self._codes_NT.flatten().bincount(minlength=entries.num_embeddings).clamp(min=1)
        weights = counts.float().rsqrt()
        self._weights = weights / weights[self._codes_NT].mean()
        entries.weight.data.normal_(generator=generator)
        self._optimizer = torch.optim.AdamW(
            vq.parameters(), lr=learning_rate, betas=(0.9, 0.99), weight_decay=0.0
        )
        self._schedule = torch.optim.lr_scheduler.OneCycleLR(
            self._optimizer, learning_rate, total_steps=steps, pct_start=0.1
        )

    def run(self) -> Iterator[dict[str, float]]:
        """Yields the losses of every step: of drawing, and of finding the code."""
        self.vq.train()
        for step in range(self.steps):
            generator = torch.Generator().manual_seed(self._seed * 1_000_003 + step)
            chosen = torch.randint(len(self._images), (self._size,), generator=generator)
            yield self._step(self._images[chosen], self._codes_NT[chosen])
        self.vq.eval()

    def _step(self, pixels_BCHW: Tensor, codes_BT: Tensor) -> dict[str, float]:
        entries = F.normalize(self.vq.quantize.embedding.weight, dim=-1)
        grid = (self._side, self._side)
        weights_BT = self._weights[codes_BT]
        similarity = (latents(self.vq, pixels_BCHW) @ entries.T).flatten(0, 1)
        missed = F.cross_entropy(similarity / TEMPERATURE, codes_BT.flatten(), reduction="none")
        finding = (missed * weights_BT.flatten()).mean()
        drawn = self.vq.decoder(self.vq.post_quant_conv(entries[codes_BT].transpose(1, 2).unflatten(2, grid)))
        error_BHW = (drawn - pixels_BCHW).square().mean(1)
        weights_BHW = F.interpolate(weights_BT.unflatten(1, grid)[:, None], size=error_BHW.shape[1:]).squeeze(
            1
        )
        drawing = (error_BHW * weights_BHW).mean()
        self._optimizer.zero_grad()
        (drawing + FINDING_WEIGHT * finding).backward()
        self._optimizer.step()
        self._schedule.step()
        return {"loss_drawing": drawing.item(), "loss_finding": finding.item()}


def patches(images_BCHW: Tensor, side: int) -> Tensor:
    """[B * side * side, values] patches, row by row from the top left of each image."""
    height = images_BCHW.shape[2] // side
    cut = images_BCHW.unfold(2, height, height).unfold(3, height, height)
    return cut.permute(0, 2, 3, 1, 4, 5).reshape(len(images_BCHW) * side * side, -1)


def kmeans(points_ND: Tensor, clusters: int, generator: torch.Generator, rounds: int = 10) -> Tensor:
    """Cluster of every point, [N]: k-means++ over the distinct points, then Lloyd's rounds.

    Where there are no more distinct points than clusters, each has its own.
    """
    distinct, inverse = torch.unique(points_ND, dim=0, return_inverse=True)
    centres = distinct[:1]
    gap = (distinct - centres[0]).square().sum(-1)
    for _ in range(min(clusters, len(distinct)) - 1):
        chosen = torch.multinomial(gap.clamp(min=0), 1, generator=generator)
        centres = torch.cat((centres, distinct[chosen]))
        gap = torch.minimum(gap, (distinct - centres[-1]).square().sum(-1))
    for _ in range(rounds):
        owner = torch.cdist(distinct, centres).argmin(-1)
        sums = torch.zeros_like(centres).index_add_(0, owner, distinct)
        centres = sums / owner.bincount(minlength=len(centres)).clamp(min=1)[:, None]
    return torch.cdist(distinct, centres).argmin(-1)[inverse]
