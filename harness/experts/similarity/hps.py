"""`hps=hps_v2_1`: HPS v2.1, a CLIP ViT-H-14 trained on human choices.

Source: arXiv 2306.09341, github.com/tgxs002/HPSv2 866735e.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL.Image import Image

from harness.experts.pixels import normalised_3HW, unit_3HW
from harness.experts.pretrained import Pretrained, first_line, freeze, read_serving
from harness.experts.similarity.cosine import pair_cosines
from harness.experts.similarity.open_clip import clip_model, read_checkpoint
from harness.settings import whole_number

if TYPE_CHECKING:
    import torch

WHERE = "hps.similarity"
_STRAIGHT_QUOTES = str.maketrans(
    {
        **dict.fromkeys("\u02bc\u2018\u2019\u201a\u201b", "'"),
        **dict.fromkeys("\u201c\u201d\u201e\u201f", '"'),
    }
)


class HpsV21:
    """Raw cosine of image and text: the official program's value before its logit scale.

    The official program runs under fp16 autocast: expect differences of 1e-3 from float32.

    Args:
        model: hub id or folder that holds `file`.
        file: the checkpoint, a `.pt` with a `state_dict` in open_clip's layout.
        tokenizer: hub id or folder of CLIP's tokenizer in transformers' layout; every CLIP has the same.
        vision_heads: attention heads of the image tower.
        text_heads: attention heads of the text tower.
        dtype: float32, bfloat16 or float16.
        serving: settings that change no answer: `batch_size` in images or texts; `device`, a torch device or
            `auto`.
    """

    def __init__(
        self,
        *,
        model: str,
        file: str,
        tokenizer: str,
        vision_heads: int,
        text_heads: int,
        dtype: str,
        serving: Mapping[str, Any],
    ) -> None:
        device, self._batch = read_serving(WHERE, serving)
        self._pretrained = Pretrained(where=WHERE, model=model, device=device, dtype=dtype)
        self._tokens = Pretrained(
            where=WHERE, model=tokenizer, device=device, dtype=dtype, setting="tokenizer"
        )
        self._file = file
        folder = Path(self._pretrained.model)
        if folder.is_dir() and not (folder / file).is_file():
            raise ValueError(
                f"{WHERE}.model={model}: there is no {file} in this folder; {WHERE}.file names another"
            )
        self._vision_heads = whole_number(f"{WHERE}.vision_heads", vision_heads)
        self._text_heads = whole_number(f"{WHERE}.text_heads", text_heads)

    def similarity(self, images: Sequence[Image], texts: Sequence[str]) -> list[float | None]:
        """Cosines in [-1, 1], usually about 0.10 to 0.40. Compare only images of the same text by them."""
        return pair_cosines(images, texts, self._embed_images, self._embed_texts, self._batch)

    @cached_property
    def _model(self) -> Any:
        path = self._path()
        try:
            model = clip_model(
                read_checkpoint(path),
                vision_heads=self._vision_heads,
                text_heads=self._text_heads,
                dtype=self._pretrained.dtype(),
            )
        except ValueError as error:
            raise ValueError(f"{WHERE}: {path}: {error}") from error
        return freeze(model, self._pretrained.device())

    def _path(self) -> Path:
        """The checkpoint in the local folder `model`, else from the hub.

        Raises:
            ValueError: it cannot be fetched. The message says where to get it and where to put it.
        """
        folder = Path(self._pretrained.model)
        if folder.is_dir():
            return folder / self._file
        from huggingface_hub import hf_hub_download

        try:
            return Path(hf_hub_download(self._pretrained.model, self._file))
        except (OSError, ValueError) as error:  # the hub raises OSErrors, and ValueErrors for names
            raise ValueError(
                f"{WHERE}.model={self._pretrained.model}: {self._file} cannot be fetched from the hub"
                f" ({first_line(error)}). Fetch it where there is a network (hf download"
                f" {self._pretrained.model} {self._file} --local-dir FOLDER; HPS v2.1 is xswu/HPSv2,"
                f" HPS_v2.1_compressed.pt, 3.9 GB), copy the folder, and give {WHERE}.model=FOLDER"
            ) from error

    @cached_property
    def _tokenizer(self) -> Any:
        from transformers import CLIPTokenizer

        return self._tokens.processor(CLIPTokenizer, vocabulary=self._model.config.text_config.vocab_size)

    def _embed_images(self, images: Sequence[Image]) -> torch.Tensor:
        import torch

        side = self._model.config.vision_config.image_size
        pixels = torch.stack([pixels_of(image, side) for image in images])
        return self._model.get_image_features(pixels.to(self._model.device, self._model.dtype)).pooler_output

    def _embed_texts(self, texts: Sequence[str]) -> torch.Tensor:
        longest = self._model.config.text_config.max_position_embeddings
        cleaned = [clean(text) for text in texts]
        ids = self._tokenizer(
            cleaned, padding="max_length", truncation=True, max_length=longest, return_tensors="pt"
        ).input_ids
        return self._model.get_text_features(ids.to(self._model.device)).pooler_output


def pixels_of(image: Image, side: int) -> torch.Tensor:
    """Normalized pixels [3, side, side] of an image, centered on black.

    The longest side is resized to `side`, bicubically with antialiasing on floats. The official program does
    not pad an image whose longest side is `side` already, and then fails unless the image is square; here
    every image is padded.
    """
    import torch

    pixels = unit_3HW(image)[None]
    scale = side / max(image.size)
    if scale != 1:
        height, width = (max(1, round(length * scale)) for length in pixels.shape[-2:])
        pixels = torch.nn.functional.interpolate(
            pixels, (height, width), mode="bicubic", antialias=True, align_corners=False
        )
    right, below = side - pixels.shape[-1], side - pixels.shape[-2]
    padded = torch.nn.functional.pad(
        pixels[0], (right // 2, right - right // 2, below // 2, below - below // 2)
    )
    return normalised_3HW(padded)


def clean(text: str) -> str:
    """The text after the relevant steps of open_clip: HTML entities, curly quotes, white space and case."""
    plain = html.unescape(html.unescape(text)).translate(_STRAIGHT_QUOTES)
    return re.sub(r"\s+", " ", plain).strip().lower()
