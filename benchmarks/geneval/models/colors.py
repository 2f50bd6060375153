"""The color of an object as GenEval finds it: the color word whose prompts are nearest to the pixels
under CLIP.

Source: `color_classification` in `evaluate_images.py` (af4902f), where CLIP (arXiv 2103.00020) runs in
fp16 autocast.

Shape suffixes: B objects, C colors, T prompts, D features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

from PIL import Image, ImageOps

from harness.experts.pretrained import blocks, read_serving
from harness.experts.similarity.clip import Clip

if TYPE_CHECKING:
    import numpy as np
    import torch

COLORS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white")
PROMPTS = (
    "a photo of a {color} {name}",
    "a photo of a {color}-colored {name}",
    "a photo of a {color} object",
)
GREY = (153, 153, 153)  # what is not the object becomes #999


class Seen(NamedTuple):
    """An object in an image.

    `box` is x1, y1, x2, y2 in pixels of the image turned upright, `mask` booleans [y2 - y1, x2 - x1] of
    the object's pixels within it; `name` is its class.
    """

    image: Image.Image
    mask: np.ndarray
    box: tuple[float, float, float, float]
    name: str


class ColorClassifier:
    """Assigns one of `COLORS` to an object.

    Args:
        model: hub id or folder of a CLIP in transformers' layout; GenEval's is openai/clip-vit-large-patch14.
        dtype: float32, bfloat16 or float16.
        serving: what changes no answer: `batch_size`, objects or texts at once, and `device`, `auto` or a
            torch device.
        where: the configuration node that these settings stand in, for messages.

    Raises:
        ValueError: a setting that cannot be.
    """

    def __init__(self, *, model: str, dtype: str, serving: Mapping[str, Any], where: str) -> None:
        self._clip = Clip(model=model, dtype=dtype, long_texts="cut", serving=serving, where=where)
        _, self._batch = read_serving(where, serving)
        self._setting, self.name = f"{where}.model={model}", self._clip.name
        self._prompts: dict[str, torch.Tensor] = {}  # of each class, CD

    def load(self) -> None:
        """Reads the weights and the tokenizer, which `classify` does otherwise when it is first asked.

        Raises:
            ValueError: they are not there, or another model's; says what to do.
        """
        self._clip.load()

    def classify(
        self, image: Image.Image, mask: np.ndarray, box: tuple[float, float, float, float], name: str
    ) -> str:
        """The color of one object; see `Seen` and `classify_all`."""
        return self.classify_all([Seen(image, mask, box, name)])[0]

    def classify_all(self, objects: Sequence[Seen]) -> list[str]:
        """The color of each object; images may repeat.

        Raises:
            ValueError: a box holds no pixel, or a mask has not its size; no weights; or the weights give
                no numbers.
        """
        import torch

        found: list[str] = []
        for block in blocks(objects, self._batch):
            images_BD = self._clip.image_features([cut_out(one) for one in block])
            prompts_BCD = torch.stack([self._prompts_CD(one.name) for one in block])
            cosines_BC = torch.einsum("bd,bcd->bc", images_BD, prompts_BCD)
            if not cosines_BC.isfinite().all():
                raise ValueError(
                    f"{self._setting}: CLIP gives no finite features: its weights are damaged, or its "
                    "dtype is too small"
                )
            found += [COLORS[place] for place in cosines_BC.argmax(1).tolist()]
        return found

    def _prompts_CD(self, name: str) -> torch.Tensor:
        """For each color the mean of its prompts, of length 1."""
        import torch

        if name not in self._prompts:
            texts = [prompt.format(color=color, name=name) for color, prompt in product(COLORS, PROMPTS)]
            texts_CTD = self._clip.text_features(texts).unflatten(0, (len(COLORS), len(PROMPTS)))
            self._prompts[name] = torch.nn.functional.normalize(texts_CTD.mean(1), dim=-1)
        return self._prompts[name]


def cut_out(seen: Seen) -> Image.Image:
    """The object's box as RGB, grey where the object is not.

    Raises:
        ValueError: the box holds no pixel, or the mask has not its size.
    """
    import numpy as np

    image = ImageOps.exif_transpose(seen.image).crop(seen.box).convert("RGB")
    width, height = image.size
    if not width or not height or seen.mask.shape != (height, width):
        raise ValueError(
            f"the {seen.name} in {seen.box} has {width} x {height} pixels and a mask of shape "
            f"{seen.mask.shape}: "
            "give a box of at least one pixel, and its mask as rows and columns"
        )
    return Image.composite(
        image,
        Image.new("RGB", image.size, GREY),
        Image.fromarray(np.where(seen.mask, 255, 0).astype(np.uint8)),
    )
