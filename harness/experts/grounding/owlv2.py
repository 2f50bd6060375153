"""`phrase_grounder=owlv2`: OWLv2 (arXiv 2306.09683) as a grounder.

Shape suffixes: B images, Q boxes, N names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import groupby
from typing import Any

from PIL.Image import Image

from harness.experts.grounding.phrases import (
    WHERE,
    Lookup,
    PhraseGrounder,
    group_by_image,
    select_detections,
    to_corners,
)
from harness.experts.pretrained import blocks
from harness.types import Detection

LONGEST = 16  # tokens of a query; the model has no more positions


class Owlv2(PhraseGrounder):
    """Scores a box for a name by the probability of the name's query.

    A batch holds images with equally many names: the model scores padding queries like any other.

    Args:
        query: the text of a query, with `{}` in place of the name; cut to 16 tokens.

    The other arguments are those of `PhraseGrounder`.
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
        """Detections by falling score, for each pair of image and name, labeled with the name."""
        lookups = sorted(group_by_image(images, names), key=lambda lookup: len(lookup.names))
        results: dict[tuple[int, str], list[Detection]] = {}
        for _, same_count in groupby(lookups, key=lambda lookup: len(lookup.names)):
            for block in blocks(list(same_count), self._batch):
                results |= self._find(block)
        return [results[id(image), name] for image, name in zip(images, names, strict=True)]

    def _find(self, block: Sequence[Lookup]) -> dict[tuple[int, str], list[Detection]]:
        """The detections of a batch, by the image's id and the name."""
        import torch

        model = self._model
        pixels = self._processor.image_processor(
            [lookup.image.convert("RGB") for lookup in block], return_tensors="pt"
        )
        queries = []
        for lookup in block:
            queries += [self._query.format(name) for name in lookup.names]
        text = self._processor.tokenizer(
            queries, padding="max_length", truncation=True, max_length=LONGEST, return_tensors="pt"
        )
        with torch.inference_mode():
            output = model(
                pixel_values=pixels.pixel_values.to(model.device, model.dtype),
                input_ids=text.input_ids.to(model.device),
                attention_mask=text.attention_mask.to(model.device),
            )
            scores_BQN = output.logits.float().sigmoid().cpu()
            corners_BQ4 = to_corners(output.pred_boxes.float().cpu())
            # boxes are fractions of a square: the image with padding on its right or below it
            size_B2 = torch.tensor([lookup.image.size for lookup in block])
            square_per_size_B2 = size_B2.amax(1, keepdim=True) / size_B2
            corners_BQ4 = corners_BQ4 * square_per_size_B2.repeat(1, 2)[:, None]
        results = {}
        for lookup, scores_QN, corners_Q4 in zip(block, scores_BQN, corners_BQ4, strict=True):
            for column, name in enumerate(lookup.names):
                scores = scores_QN[:, column].tolist()
                results[id(lookup.image), name] = select_detections(
                    name, scores, corners_Q4.tolist(), **self._limits
                )
        return results

    @cached_property
    def _model(self) -> Any:
        from transformers import Owlv2ForObjectDetection

        return self._pretrained.load(Owlv2ForObjectDetection)

    @cached_property
    def _processor(self) -> Any:
        from transformers import Owlv2Processor

        size = self._model.config.text_config.vocab_size
        # this backend gives the same pixels with and without torchvision
        return self._pretrained.processor(Owlv2Processor, vocabulary=size, backend="pil")
