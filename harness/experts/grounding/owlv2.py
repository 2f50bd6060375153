"""OWLv2 (arXiv 2306.09683): `phrase_grounder=owlv2`, and subject and object of a relation, asked together.

Shape suffixes: B images, Q boxes, N names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from harness.relations import Found
from harness.types import CANVAS, Detection, Region

if TYPE_CHECKING:
    import torch

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
        lookups = group_by_image(images, names)
        results: dict[tuple[int, str], list[Detection]] = {}
        for lookup, (scores_QN, corners_Q4) in zip(lookups, self._scored(lookups), strict=True):
            for column, name in enumerate(lookup.names):
                scores = scores_QN[:, column].tolist()
                results[id(lookup.image), name] = select_detections(
                    name, scores, corners_Q4.tolist(), **self._limits
                )
        return [results[id(image), name] for image, name in zip(images, names, strict=True)]

    def _scored(self, lookups: Sequence[Lookup]) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """For each lookup the scores [Q, N] of its names, and the boxes' corners [Q, 4] as fractions of the
        image.
        """
        counts = [len(lookup.names) for lookup in lookups]
        scored: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        for _, places in groupby(sorted(range(len(lookups)), key=counts.__getitem__), counts.__getitem__):
            for block in blocks(list(places), self._batch):
                scores_BQN, corners_BQ4 = self._look([lookups[place] for place in block])
                scored |= zip(block, zip(scores_BQN, corners_BQ4, strict=True), strict=True)
        return [scored[place] for place in range(len(lookups))]

    def _look(self, block: Sequence[Lookup]) -> tuple[torch.Tensor, torch.Tensor]:
        """The scores [B, Q, N] and corners [B, Q, 4] of a batch."""
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
            return scores_BQN, corners_BQ4 * square_per_size_B2.repeat(1, 2)[:, None]

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


class Owlv2Pairs(Owlv2):
    """Finds two phrases that it is asked for together, as the program of arXiv 2608.21713 does.

    Each box belongs to the phrase it fits best, and the best box of a phrase is its object. The arguments
    are those of `Owlv2`.
    """

    def __init__(
        self,
        *,
        model: str,
        query: str,
        threshold: float,
        dtype: str,
        serving: Mapping[str, Any],
        where: str = WHERE,
    ) -> None:
        super().__init__(
            model=model,
            query=query,
            threshold=threshold,
            overlap=1,  # only the best box of a phrase counts
            dtype=dtype,
            serving=serving,
            where=where,
        )

    @property
    def labels(self) -> tuple[str, ...]:
        """The protocol, for tables."""
        threshold, query = self._limits["threshold"], self._query.format("PHRASE")
        return (f"detector={Path(self.name).name}", f"threshold={threshold:g}", f"query={query}")

    def find_pairs(self, images: Sequence[Image], pairs: Sequence[tuple[str, str]]) -> list[Found]:
        """The regions of the two phrases in each image; corners outside the image are kept."""
        lookups = [
            Lookup(image, tuple(dict.fromkeys(pair))) for image, pair in zip(images, pairs, strict=True)
        ]
        found: list[Found] = []
        for lookup, pair, (scores_QN, corners_Q4) in zip(lookups, pairs, self._scored(lookups), strict=True):
            regions = best_regions(scores_QN.tolist(), corners_Q4.tolist(), self._limits["threshold"])
            by_phrase = dict(zip(lookup.names, regions, strict=True))
            found.append((by_phrase[pair[0]], by_phrase[pair[1]]))
        return found


def best_regions(
    scores: Sequence[Sequence[float]], corners: Sequence[Sequence[float]], threshold: float
) -> list[Region | None]:
    """The best box of each name among the boxes that fit it best, the first of equals; None without any.

    Args:
        scores: of each box for every name. A box fits the first of equal names.
        corners: x1, y1, x2, y2 of each box as fractions of the image.
        threshold: boxes with this score or less are left out.
    """
    best: list[tuple[float, Region] | None] = [None] * len(scores[0])
    for own, fractions in zip(scores, corners, strict=True):
        score = max(own)
        name = own.index(score)
        kept = best[name]
        if score > (threshold if kept is None else kept[0]):
            best[name] = score, Region(*(value * CANVAS for value in fractions))
    return [None if kept is None else kept[1] for kept in best]
