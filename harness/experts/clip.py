"""`clip=clip`: the cosine of CLIP (arXiv 2103.00020), which GoT-R1's ablation takes for the prompt-image reward."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from PIL.Image import Image

from harness.experts.cosine import pair_cosines
from harness.experts.pretrained import Pretrained, read_serving

if TYPE_CHECKING:
    import torch

WHERE = "clip.similarity"


class Clip:
    """Raw cosine of picture and text; a text is cut to the model's length (77 tokens).

    Args:
        model: hub id or folder of a CLIP in transformers' layout.
        dtype: float32, bfloat16 or float16.
        serving: what changes no answer: `batch_size`, pictures or texts at once, and `device`, `auto` or a torch device.
    """

    def __init__(self, *, model: str, dtype: str, serving: Mapping[str, Any]) -> None:
        device, self._batch = read_serving(WHERE, serving)
        self._pretrained = Pretrained(where=WHERE, model=model, device=device, dtype=dtype)

    def similarity(self, images: Sequence[Image], texts: Sequence[str]) -> list[float | None]:
        """In [-1, 1], in practice about 0.15 to 0.35."""
        return pair_cosines(images, texts, self._embed_images, self._embed_texts, self._batch)

    @cached_property
    def _model(self) -> Any:
        from transformers import CLIPModel

        return self._pretrained.load(CLIPModel)

    @cached_property
    def _processor(self) -> Any:
        from transformers import CLIPProcessor

        size = self._model.config.text_config.vocab_size
        return self._pretrained.processor(CLIPProcessor, vocabulary=size, backend="pil")  # the same pixels with or without torchvision

    def _embed_images(self, images: Sequence[Image]) -> torch.Tensor:
        model = self._model
        pixels = self._processor.image_processor([image.convert("RGB") for image in images], return_tensors="pt").pixel_values
        return model.get_image_features(pixels.to(model.device, model.dtype)).pooler_output

    def _embed_texts(self, texts: Sequence[str]) -> torch.Tensor:
        model = self._model
        longest = model.config.text_config.max_position_embeddings
        ids = self._processor.tokenizer(list(texts), padding=True, truncation=True, max_length=longest, return_tensors="pt")
        return model.get_text_features(**ids.to(model.device)).pooler_output
