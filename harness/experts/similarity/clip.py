"""`clip=clip`: the cosine of CLIP (arXiv 2103.00020), the prompt-image reward of an ablation of GoT-R1.

With ViT-B/32 and `long_texts=unscored` it is T2I-CompBench's CLIPScore (its `CLIP_similarity.py`, 1b70949).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from PIL.Image import Image

from harness.experts.pixels import cropped, normalised_3HW, unit_3HW
from harness.experts.pretrained import Pretrained, read_serving
from harness.experts.similarity.cosine import features, pair_cosines
from harness.settings import choice

if TYPE_CHECKING:
    import torch

LONG_TEXTS = ("cut", "unscored")


class Clip:
    """Raw cosine of image and text. PIL resizes and crops images, as in the official program.

    Args:
        model: hub id or folder of a CLIP in transformers' layout.
        dtype: float32, bfloat16 or float16.
        long_texts: texts with more tokens than the model allows (77) are `cut` to its length, or `unscored`.
        serving: settings that change no answer: `batch_size` in images or texts; `device`, a torch device or
            `auto`.
        where: the configuration node of these settings, for messages.

    Raises:
        ValueError: a setting has a value that is not allowed.
    """

    def __init__(
        self,
        *,
        model: str,
        dtype: str,
        long_texts: str,
        serving: Mapping[str, Any],
        where: str = "clip.similarity",
    ) -> None:
        device, self._batch = read_serving(where, serving)
        self._pretrained = Pretrained(where=where, model=model, device=device, dtype=dtype)
        self.name = model
        self._cuts = choice(f"{where}.long_texts", long_texts, LONG_TEXTS) == "cut"

    def missing(self) -> list[str]:
        """A message if the model is neither a local folder nor in the hub's cache."""
        return self._pretrained.missing()

    def load(self) -> None:
        """Loads weights and tokenizer now; without this call the first use does.

        Raises:
            ValueError: they are missing, or belong to another model. The message says what to do.
        """
        _ = self._tokenizer  # it is checked against the model, which loads first

    def similarity(self, images: Sequence[Image], texts: Sequence[str]) -> list[float | None]:
        """Cosines in [-1, 1], usually about 0.15 to 0.35; None for a text that is too long to score."""
        cosines = pair_cosines(images, texts, self._embed_images, self._embed_texts, self._batch)
        if self._cuts or not texts:
            return cosines
        ids_of_texts = self._tokenizer(list(texts), truncation=True, max_length=self._longest + 1).input_ids
        return [
            cosine if len(ids) <= self._longest else None
            for cosine, ids in zip(cosines, ids_of_texts, strict=True)
        ]

    def image_features(self, images: Sequence[Image]) -> torch.Tensor:
        """[B, D] features of length 1 of at least one image, in float32 on the CPU."""
        return features(images, self._embed_images, self._batch)

    def text_features(self, texts: Sequence[str]) -> torch.Tensor:
        """[B, D] features of length 1 of at least one text, in float32 on the CPU; long texts are cut."""
        return features(texts, self._embed_texts, self._batch)

    @cached_property
    def _model(self) -> Any:
        from transformers import CLIPModel

        return self._pretrained.load(CLIPModel)

    @cached_property
    def _tokenizer(self) -> Any:
        from transformers import CLIPTokenizer

        return self._pretrained.processor(CLIPTokenizer, vocabulary=self._model.config.text_config.vocab_size)

    @property
    def _longest(self) -> int:
        return self._model.config.text_config.max_position_embeddings

    def _embed_images(self, images: Sequence[Image]) -> torch.Tensor:
        import torch

        model = self._model
        side = model.config.vision_config.image_size
        pixels_B3HW = torch.stack([normalised_3HW(unit_3HW(cropped(image, side))) for image in images])
        return model.get_image_features(pixels_B3HW.to(model.device, model.dtype)).pooler_output

    def _embed_texts(self, texts: Sequence[str]) -> torch.Tensor:
        model = self._model
        ids = self._tokenizer(
            list(texts), padding=True, truncation=True, max_length=self._longest, return_tensors="pt"
        )
        return model.get_text_features(**ids.to(model.device)).pooler_output
