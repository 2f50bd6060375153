"""`phrase_grounder=grounding_dino`: Grounding DINO (arXiv 2303.05499), GoT-R1's conventional chain-image reward.

Shape suffixes: B pictures, T tokens, Q boxes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import groupby
from typing import Any, NamedTuple

from PIL.Image import Image

from harness.experts.grounding.phrases import PhraseGrounder, Request, best, requests_of
from harness.experts.pretrained import blocks
from harness.types import Detection

SEPARATORS = ("[CLS]", "[SEP]", ".", "?")  # the model takes phrases apart at these ids


class _Caption(NamedTuple):
    """Names side by side in one text: its ids, and where each name stands among them."""

    ids: list[int]
    spans: dict[str, slice]


class GroundingDino(PhraseGrounder):
    """Boxes of a name by the mean, over the name's tokens, of each token's probability.

    The names of one picture are asked in one caption, `red apple. dog.`; a name of no readable token is nowhere.
    """

    def find(self, images: Sequence[Image], names: Sequence[str]) -> list[list[Detection]]:
        """The same with their scores, labelled by the name asked for."""
        found: dict[tuple[int, str], list[Detection]] = {}
        captioned = [
            (request, caption)
            for request in requests_of(images, names)
            for caption in self._captions(request.names)
        ]
        captioned.sort(key=lambda pair: pair[0].image.size)  # pictures of one size need no padding
        for _, same in groupby(captioned, key=lambda pair: pair[0].image.size):
            for block in blocks(list(same), self._batch):
                found |= self._find(block)
        return [found.get((id(image), name), []) for image, name in zip(images, names, strict=True)]

    def _find(self, block: Sequence[tuple[Request, _Caption]]) -> dict[tuple[int, str], list[Detection]]:
        """What bears each name of a batch, by picture and name."""
        import torch

        model = self._model
        pixels = self._processor.image_processor(
            [request.image.convert("RGB") for request, _ in block], return_tensors="pt"
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
            scores_BQT, boxes_BQ4 = output.logits.float().sigmoid().cpu(), output.pred_boxes.float().cpu()
            corners_BQ4 = torch.cat(
                [boxes_BQ4[..., :2] - boxes_BQ4[..., 2:] / 2, boxes_BQ4[..., :2] + boxes_BQ4[..., 2:] / 2], -1
            )
        return {
            (id(request.image), name): best(
                name, scores_QT[:, span].mean(1).tolist(), corners_Q4.tolist(), **self._limits
            )
            for (request, caption), scores_QT, corners_Q4 in zip(block, scores_BQT, corners_BQ4, strict=True)
            for name, span in caption.spans.items()
        }

    def _captions(self, names: Sequence[str]) -> list[_Caption]:
        """The names in captions that the model can hold; more than one only where they are too long together."""
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
        return self._pretrained.processor(
            GroundingDinoProcessor, vocabulary=size, backend="pil"
        )  # the same pixels with or without torchvision
