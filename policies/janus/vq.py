"""The image tokenizer: pixels to codes and back through transformers' JanusVQVAE; training of a small one.

Encoding normalizes latents and codebook as the original VQ-16 does. Transformers' own `encode` does not, and
returns other codes (only its `decode` is right).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from harness import team
from harness.files import writing

if TYPE_CHECKING:
    from transformers import JanusVQVAE

# at most so many at a time: 7 images of 384 x 384, whose widest activations take half a GB each, or 32 small
# ones, whose activations a processor's cache holds (a quarter faster than 64)
IMAGES, PIXELS = 32, 2**20
# a GPU's convolutions round float32 to TF32 by default
EXACT = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
TEMPERATURE = 0.1  # of the similarities in the loss of finding a patch's code
FINDING_WEIGHT = 0.1  # of the loss of finding the code; the loss of drawing has weight 1
HALVES = 2  # of a batch: the gradient of a step is their sum, and up to two processes compute one each


def pixels(images: Sequence[Image.Image]) -> Tensor:
    """[B, 3, height, width] in -1..1.

    Contiguous: with channels last, which the layers keep, torch normalizes groups 20 times slower on a CPU.
    """
    stacked = np.stack([np.asarray(image.convert("RGB")) for image in images])
    return torch.from_numpy(stacked).permute(0, 3, 1, 2).contiguous().float() / 127.5 - 1


def latents(vq: JanusVQVAE, pixels_BCHW: Tensor) -> Tensor:
    """Unit latents before quantization, [B, tokens, width]."""
    return F.normalize(vq.quant_conv(vq.encoder(pixels_BCHW)).flatten(2).transpose(1, 2), dim=-1)


def nearest(vq: JanusVQVAE, latents_BTD: Tensor) -> Tensor:
    """The nearest code of every latent, [B, tokens]."""
    return (latents_BTD @ F.normalize(vq.quantize.embedding.weight, dim=-1).T).argmax(-1)


def at_a_time(vq: JanusVQVAE) -> int:
    """The number of images to encode or decode at once, so that memory does not grow with all of them."""
    height, width = vq.quantize.quant_state_dims
    levels = len(vq.config.channel_multiplier)
    return min(IMAGES, max(1, PIXELS // (height * width * 4 ** (levels - 1))))


@torch.no_grad()
@EXACT
def encode(vq: JanusVQVAE, images: Sequence[Image.Image]) -> list[tuple[int, ...]]:
    """Codes of every image, row by row from the top left."""
    device, batch = vq.quantize.embedding.weight.device, at_a_time(vq)
    codes: list[tuple[int, ...]] = []
    for start in range(0, len(images), batch):
        block = pixels(images[start : start + batch]).to(device)
        codes += [tuple(row) for row in nearest(vq, latents(vq, block)).tolist()]
    return codes


@torch.no_grad()
@EXACT
def decode(vq: JanusVQVAE, codes: Sequence[tuple[int, ...]]) -> list[Image.Image]:
    """Images of codes; levels are truncated to bytes, as upstream does."""
    device, batch = vq.quantize.embedding.weight.device, at_a_time(vq)
    images: list[Image.Image] = []
    for start in range(0, len(codes), batch):
        decoded = vq.decode(torch.tensor(codes[start : start + batch], device=device)).float()
        scaled = ((decoded + 1) / 2 * 255).clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()
        images += [Image.fromarray(array) for array in scaled]
    return images


class Training:
    """Trains a small VQ so that equal patches get equal codes, wherever they are in the image.

    Without this, a convolutional VQ of this size spreads a patch's content over its neighbors: one white
    patch has many codes, and a policy cannot learn which. So the codes are fixed first, by k-means over the
    patches. Then the encoder learns to find a patch's code, and the decoder to draw it. Rare patches get more
    than their share of weight, or the background would dominate.

    Several processes train the same VQ with the bits of one, whatever their number.
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
        self.vq, self.steps, self.done = vq, steps, 0
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
            vq.parameters(), lr=learning_rate, betas=(0.9, 0.99), weight_decay=0.0, fused=True
        )
        self._schedule = torch.optim.lr_scheduler.OneCycleLR(
            self._optimizer, learning_rate, total_steps=steps, pct_start=0.1
        )

    def step(self) -> dict[str, float]:
        """Takes the next step. Returns its losses: of drawing a patch, and of finding its code."""
        self.vq.train()
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + self.done)
        chosen = torch.randint(len(self._images), (self._size,), generator=generator)
        rank, processes = team.rank_and_size()
        self._optimizer.zero_grad()
        losses = torch.zeros(2)
        for half in chosen.split(math.ceil(self._size / HALVES))[rank::processes]:
            losses += self._backward(self._images[half], self._codes_NT[half], len(half) / self._size)
        if processes > 1:
            self._add_up(losses)
        self._optimizer.step()
        self._schedule.step()
        self.done += 1
        drawing, finding = losses.tolist()
        return {"loss_drawing": drawing, "loss_finding": finding}

    def save(self, file: Path) -> None:
        """Writes what `restore` needs to continue after the steps done; replaces the file as a whole.

        Raises:
            OSError: the file cannot be written.
            RuntimeError: likewise, as torch says it.
        """
        parts = {name: part.state_dict() for name, part in self._parts().items()}
        with writing(file, durable=True) as new, new.open("wb") as stream:
            torch.save({"step": self.done, "codes": self._codes_NT, **parts}, stream)

    def restore(self, file: Path) -> None:
        """Loads what `save` wrote; nothing happens where there is no file.

        Raises:
            ValueError: the file is damaged, or of another training.
        """
        if not file.is_file():
            return
        try:
            state = torch.load(file, weights_only=True)
            if not torch.equal(state["codes"], self._codes_NT):
                raise ValueError("it is of other images")
            for name, part in self._parts().items():
                part.load_state_dict(state[name])
            self.done = state["step"]
        except OSError:
            raise
        except Exception as error:  # a damaged pickle may raise anything
            raise ValueError(
                f"cannot resume from {file}: delete it, and the stage starts from the beginning"
                f" ({type(error).__name__}: {error})"
            ) from error

    def _parts(self) -> dict[str, Any]:
        return {"weights": self.vq, "optimizer": self._optimizer, "schedule": self._schedule}

    def _add_up(self, losses: Tensor) -> None:
        """Replaces gradients and losses by their sums over all processes."""
        parts = [losses]
        for parameter in self.vq.parameters():
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            parts.append(parameter.grad)
        joined = torch.cat([part.flatten() for part in parts])
        team.add_up(joined)
        for part, total in zip(parts, joined.split([part.numel() for part in parts]), strict=True):
            part.copy_(total.view_as(part))

    def _backward(self, pixels_BCHW: Tensor, codes_BT: Tensor, share: float) -> Tensor:
        """Adds the gradient of these images, a share of the batch. Returns their share of both losses."""
        entries = F.normalize(self.vq.quantize.embedding.weight, dim=-1)
        grid = (self._side, self._side)
        weights_BT = self._weights[codes_BT]
        similarity = (latents(self.vq, pixels_BCHW) @ entries.T).flatten(0, 1)
        missed = F.cross_entropy(similarity / TEMPERATURE, codes_BT.flatten(), reduction="none")
        finding = (missed * weights_BT.flatten()).mean()
        codes_BDGG = entries[codes_BT].transpose(1, 2).contiguous().unflatten(2, grid)
        drawn = self.vq.decoder(self.vq.post_quant_conv(codes_BDGG))
        error_BHW = (drawn - pixels_BCHW).square().mean(1)
        weights_B1GG = weights_BT.unflatten(1, grid)[:, None]
        weights_BHW = F.interpolate(weights_B1GG, size=error_BHW.shape[1:]).squeeze(1)
        drawing = (error_BHW * weights_BHW).mean()
        (share * (drawing + FINDING_WEIGHT * finding)).backward()
        return share * torch.stack((drawing, finding)).detach()


def patches(images_BCHW: Tensor, side: int) -> Tensor:
    """[B * side * side, values] patches, row by row from the top left of each image."""
    height = images_BCHW.shape[2] // side
    cut = images_BCHW.unfold(2, height, height).unfold(3, height, height)
    return cut.permute(0, 2, 3, 1, 4, 5).reshape(len(images_BCHW) * side * side, -1)


def kmeans(points_ND: Tensor, clusters: int, generator: torch.Generator, rounds: int = 10) -> Tensor:
    """Cluster of every point, [N]: k-means++ over the distinct points, then Lloyd's rounds.

    If there are at most as many distinct points as clusters, each point has its own.
    """
    distinct, inverse = torch.unique(points_ND, dim=0, return_inverse=True)
    centers = distinct[:1]
    gap = (distinct - centers[0]).square().sum(-1)
    for _ in range(min(clusters, len(distinct)) - 1):
        chosen = torch.multinomial(gap.clamp(min=0), 1, generator=generator)
        centers = torch.cat((centers, distinct[chosen]))
        gap = torch.minimum(gap, (distinct - centers[-1]).square().sum(-1))
    for _ in range(rounds):
        cluster = torch.cdist(distinct, centers).argmin(-1)
        sums = torch.zeros_like(centers).index_add_(0, cluster, distinct)
        centers = sums / cluster.bincount(minlength=len(centers)).clamp(min=1)[:, None]
    return torch.cdist(distinct, centers).argmin(-1)[inverse]
