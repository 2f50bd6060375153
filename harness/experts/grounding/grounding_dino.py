"""`phrase_grounder=grounding_dino`: Grounding DINO (arXiv 2303.05499).

GoT-R1 uses it for the conventional chain-image reward. Shape suffixes: B images, T tokens, Q boxes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import groupby
from typing import Any, NamedTuple

from PIL.Image import Image

from harness.experts.grounding.phrases import PhraseGrounder, group_by_image, select_detections, to_corners
from harness.experts.pretrained import blocks
from harness.types import Detection

SEPARATORS = ("[CLS]", "[SEP]", ".", "?")  # the model splits a caption into phrases at these ids


class _Caption(NamedTuple):
    """Several names in one text: its ids, and the span of each name among them."""

    ids: list[int]
    spans: dict[str, slice]


class GroundingDino(PhraseGrounder):
    """Scores a box for a name by the mean, over the name's tokens, of each token's probability.

    The names of one image form one caption, `red apple. dog.`. A name without a readable token is absent.
    """

    def find(self, images: Sequence[Image], names: Sequence[str]) -> list[list[Detection]]:
        """Detections by falling score, for each pair of image and name, labeled with the name."""
        captioned: list[tuple[Image, _Caption]] = []
        for lookup in group_by_image(images, names):
            captioned += [(lookup.image, caption) for caption in self._captions(lookup.names)]
        captioned.sort(key=lambda pair: pair[0].size)  # images of one size need no padding
        results: dict[tuple[int, str], list[Detection]] = {}
        for _, same_size in groupby(captioned, key=lambda pair: pair[0].size):
            for block in blocks(list(same_size), self._batch):
                results |= self._find(block)
        return [results.get((id(image), name), []) for image, name in zip(images, names, strict=True)]

    def _find(self, block: Sequence[tuple[Image, _Caption]]) -> dict[tuple[int, str], list[Detection]]:
        """The detections of a batch, by the image's id and the name."""
        import torch

        model = self._model
        pixels = self._processor.image_processor(
            [image.convert("RGB") for image, _ in block], return_tensors="pt"
        )
        text = self._processor.tokenizer.pad(
            {"input_ids": [caption.ids for _, caption in block]}, padding=True, return_tensors="pt"
        )
        with torch.inference_mode():
            output = model(
                pixel_values=pixels.pixel_values.to(model.device, model.dtype),
                input_ids=text.input_ids.to(model.device),
                attention_mask=text.attention_mask.to(model.device),
                token_type_ids=torch.zeros_like(text.input_ids).to(model.device),
            )
            scores_BQT = output.logits.float().sigmoid().cpu()
            corners_BQ4 = to_corners(output.pred_boxes.float().cpu())
        results = {}
        for (image, caption), scores_QT, corners_Q4 in zip(block, scores_BQT, corners_BQ4, strict=True):
            for name, span in caption.spans.items():
                scores = scores_QT[:, span].mean(1).tolist()
                results[id(image), name] = select_detections(
                    name, scores, corners_Q4.tolist(), **self._limits
                )
        return results

    def _captions(self, names: Sequence[str]) -> list[_Caption]:
        """The names in one caption, or in several if the model's text length requires it."""
        longest, tokenizer = self._model.config.max_text_len, self._processor.tokenizer
        first, last, dot, question = tokenizer.convert_tokens_to_ids(list(SEPARATORS))
        captions = [_Caption([first], {})]
        for name in names:
            ids = tokenizer(name.lower(), add_special_tokens=False).input_ids
            ids = [token for token in ids if token not in (first, last, dot, question)][: longest - 3]
            if not ids:
                continue
            if len(captions[-1].ids) + len(ids) + 2 > longest:
                captions.append(_Caption([first], {}))
            caption = captions[-1]
            caption.spans[name] = slice(len(caption.ids), len(caption.ids) + len(ids))
            caption.ids.extend([*ids, dot])
        return [_Caption([*caption.ids, last], caption.spans) for caption in captions if caption.spans]

    @cached_property
    def _model(self) -> Any:
        from transformers import GroundingDinoForObjectDetection

        return self._pretrained.load(GroundingDinoForObjectDetection)

    @cached_property
    def _processor(self) -> Any:
        from transformers import GroundingDinoProcessor

        size = self._model.config.text_config.vocab_size
        # this backend gives the same pixels with and without torchvision
        return self._pretrained.processor(GroundingDinoProcessor, vocabulary=size, backend="pil")
