"""Cosines of pictures and texts under a two-tower model; equal pictures and equal texts are embedded once.

Shape suffixes: B items of a batch, D features.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from PIL.Image import Image

from harness.experts.pretrained import blocks

if TYPE_CHECKING:
    import torch

Embed = Callable[[Sequence[Any]], "torch.Tensor"]  # items -> features_BD


def pair_cosines(
    images: Sequence[Image], texts: Sequence[str], embed_images: Embed, embed_texts: Embed, batch: int
) -> list[float | None]:
    """The cosine of every image with the text beside it, without logit scale; None where the features are not finite.

    Args:
        images: as many as `texts`.
        texts: what each image is compared with.
        embed_images: gives [B, D] features of at most `batch` images; they need not be normalised.
        embed_texts: the same for texts.
        batch: how many items are embedded at once.
    """
    if len(images) != len(texts):
        raise ValueError(f"{len(images)} images and {len(texts)} texts: give one text for each image")
    if not images:
        return []
    distinct = {id(image): image for image in images}
    images_BD = dict(zip(distinct, features(list(distinct.values()), embed_images, batch), strict=True))
    texts_BD = dict(
        zip(dict.fromkeys(texts), features(list(dict.fromkeys(texts)), embed_texts, batch), strict=True)
    )
    found = [float(images_BD[id(image)] @ texts_BD[text]) for image, text in zip(images, texts, strict=True)]
    return [value if math.isfinite(value) else None for value in found]


def features(items: Sequence[Any], embed: Embed, batch: int) -> torch.Tensor:
    """[B, D] features of length 1, in float32 on the CPU; `items` has at least one, and `batch` of them are embedded at once."""
    import torch

    with torch.inference_mode():
        return torch.cat(
            [
                torch.nn.functional.normalize(embed(block).float(), dim=-1).cpu()
                for block in blocks(items, batch)
            ]
        )
