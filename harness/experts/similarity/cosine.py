"""Cosines of images and texts under a two-tower model; equal images and equal texts are embedded once.

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
    """The cosine of each image and its text, without logit scale; None if the features are not finite.

    Args:
        images: as many as `texts`.
        texts: one for each image.
        embed_images: returns [B, D] features of at most `batch` images; they need not have length 1.
        embed_texts: the same for texts.
        batch: the number of items to embed at once.
    """
    if len(images) != len(texts):
        raise ValueError(f"{len(images)} images and {len(texts)} texts: give one text for each image")
    if not images:
        return []
    image_by_id = {id(image): image for image in images}
    distinct_texts = list(dict.fromkeys(texts))
    image_features_BD = features(list(image_by_id.values()), embed_images, batch)
    text_features_BD = features(distinct_texts, embed_texts, batch)
    image_D_by_id = dict(zip(image_by_id, image_features_BD, strict=True))
    text_D_by_text = dict(zip(distinct_texts, text_features_BD, strict=True))
    cosines = []
    for image, text in zip(images, texts, strict=True):
        cosine = float(image_D_by_id[id(image)] @ text_D_by_text[text])
        cosines.append(cosine if math.isfinite(cosine) else None)
    return cosines


def features(items: Sequence[Any], embed: Embed, batch: int) -> torch.Tensor:
    """[B, D] features of length 1 of at least one item, in float32 on the CPU; `batch` items at a time."""
    import torch

    features_of_blocks = []
    with torch.inference_mode():
        for block in blocks(items, batch):
            features_of_blocks.append(torch.nn.functional.normalize(embed(block).float(), dim=-1).cpu())
        return torch.cat(features_of_blocks)
