"""`phrase_grounder=owlv2`: OWLv2 (arXiv 2306.09683) as a grounder.

Shape suffixes: B pictures, Q boxes, N names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import groupby
from typing import Any

from PIL.Image import Image

from harness.experts.grounding.phrases import WHERE, PhraseGrounder, Request, best, requests_of
from harness.experts.pretrained import blocks
from harness.types import Detection

LONGEST = 16  # tokens of a query; the model has no more positions


class Owlv2(PhraseGrounder):
    """Boxes of a name by the probability of its query.

    Pictures asked for equally many names go in one batch: the model scores padding queries like any other.

    Args:
        query: what is asked, with `{}` where the name goes; cut to 16 tokens.

    The others are those of `PhraseGrounder`.
    """

    def __init__(
        self,
        *,
        model: str,
        query: str,
        threshold: float,
        overlap: float,
        dtype: str,
        serving: Mapping[str, Any],
        where: str = WHERE,
    ) -> None:
        super().__init__(
            model=model, threshold=threshold, overlap=overlap, dtype=dtype, serving=serving, where=where
        )
        if query.count("{}") != 1:
            raise ValueError(f"{where}.query={query!r}: write {{}} once, where the name goes")
        self._query = query

    def find(self, images: Sequence[Image], names: Sequence[str]) -> list[list[Detection]]:
        """The same with their scores, labelled by the name asked for."""
        found: dict[tuple[int, str], list[Detection]] = {}
        requests = sorted(requests_of(images, names), key=lambda request: len(request.names))
        for _, equal in groupby(requests, key=lambda request: len(request.names)):
            for block in blocks(list(equal), self._batch):
                found |= self._find(block)
        return [found[id(image), name] for image, name in zip(images, names, strict=True)]

    def _find(self, block: Sequence[Request]) -> dict[tuple[int, str], list[Detection]]:
        """What bears each name of a batch, by picture and name."""
        import torch

        model = self._model
        pixels = self._processor.image_processor(
            [request.image.convert("RGB") for request in block], return_tensors="pt"
        )
        queries = [self._query.format(name) for request in block for name in request.names]
        text = self._processor.tokenizer(
            queries, padding="max_length", truncation=True, max_length=LONGEST, return_tensors="pt"
        )
        with torch.inference_mode():
            output = model(
                pixel_values=pixels.pixel_values.to(model.device, model.dtype),
                input_ids=text.input_ids.to(model.device),
                attention_mask=text.attention_mask.to(model.device),
            )
            scores_BQN, boxes_BQ4 = output.logits.float().sigmoid().cpu(), output.pred_boxes.float().cpu()
            corners_BQ4 = torch.cat(
                [boxes_BQ4[..., :2] - boxes_BQ4[..., 2:] / 2, boxes_BQ4[..., :2] + boxes_BQ4[..., 2:] / 2], -1
            )
            width_height_B2 = torch.tensor([request.image.size for request in block])
            padded_B2 = (
                width_height_B2.amax(1, keepdim=True) / width_height_B2
            )  # boxes are fractions of a square, padded right and below
            corners_BQ4 = corners_BQ4 * padded_B2.repeat(1, 2)[:, None]
        return {
            (id(request.image), name): best(
                name, scores_QN[:, column].tolist(), corners_Q4.tolist(), **self._limits
            )
            for request, scores_QN, corners_Q4 in zip(block, scores_BQN, corners_BQ4, strict=True)
            for column, name in enumerate(request.names)
        }

    @cached_property
    def _model(self) -> Any:
        from transformers import Owlv2ForObjectDetection

        return self._pretrained.load(Owlv2ForObjectDetection)

    @cached_property
    def _processor(self) -> Any:
        from transformers import Owlv2Processor

        size = self._model.config.text_config.vocab_size
        return self._pretrained.processor(
            Owlv2Processor, vocabulary=size, backend="pil"
        )  # the same pixels with or without torchvision
