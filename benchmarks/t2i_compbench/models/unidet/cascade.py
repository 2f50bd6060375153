"""The three box stages, each refining the boxes of the one before (arXiv 1712.00726), and the
detections.

Shape letters: C channels, H W rows and columns of a level, N boxes, E numbers of a box,
K classes and the background, D detections, 4 corners or deltas.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.t2i_compbench.models.unidet.boxes import check_finite, clip, decode, is_real, nms
from benchmarks.t2i_compbench.models.unidet.regions import box_head, read_regions
from benchmarks.t2i_compbench.models.unidet.sizes import Sizes

# of the deltas of each stage
WEIGHTS = ((10.0, 10.0, 5.0, 5.0), (20.0, 20.0, 10.0, 10.0), (30.0, 30.0, 15.0, 15.0))
LOWEST = 0.1  # score that is no detection yet
OVERLAP = 0.5
MOST = 300  # detections of an image


class Stage(NamedTuple):
    """The output of one stage for its input boxes. Its own boxes may reach beyond the image."""

    logits_NK: Tensor
    deltas_N4: Tensor
    boxes_N4: Tensor


class Detected(NamedTuple):
    """The detections of one image, best first: boxes in pixels, scores above 0.1, classes from 0. A
    box may occur with several classes.
    """

    boxes_D4: Tensor
    scores_D: Tensor
    classes_D: Tensor


class BoxPredictor(nn.Module):
    """One logit for every class and the background, and one box for all classes."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.cls_score = nn.Linear(sizes.hidden, sizes.classes + 1)
        self.bbox_pred = nn.Linear(sizes.hidden, 4)

    def forward(self, hidden_NE: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [N, K], the background's last, and deltas [N, 4], in float32."""
        return self.cls_score(hidden_NE).float(), self.bbox_pred(hidden_NE).float()


class Cascade(nn.Module):
    """The three stages. They treat each image alone, so that memory does not grow with the batch."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.box_head = nn.ModuleList(box_head(sizes) for _ in WEIGHTS)
        self.box_predictor = nn.ModuleList(BoxPredictor(sizes) for _ in WEIGHTS)

    def forward(self, levels: Sequence[Tensor], boxes_N4: Tensor, size: tuple[int, int]) -> Detected:
        """What is in the image: the mean of the stages' scores, the boxes of the last.

        Args:
            levels: p3, p4 and p5 of one image, [C, H, W] each.
            boxes_N4: proposals, in pixels.
            size: height and width of the image without padding.

        Raises:
            FloatingPointError: the networks' numbers are not finite.
        """
        stages = self.stages(levels, boxes_N4, size)
        return detections(stages[-1].boxes_N4, mean_scores(stages), size)

    def stages(self, levels: Sequence[Tensor], boxes_N4: Tensor, size: tuple[int, int]) -> list[Stage]:
        """What each stage says, in float32; between stages boxes are clipped, and none is dropped.

        Raises:
            FloatingPointError: the networks' numbers are not finite.
        """
        found: list[Stage] = []
        for head, predictor, weights in zip(self.box_head, self.box_predictor, WEIGHTS, strict=True):
            start_N4 = clip(found[-1].boxes_N4, size) if found else boxes_N4
            logits_NK, deltas_N4 = predictor(head(read_regions(levels, start_N4)))
            check_finite(logits_NK, deltas_N4)
            found.append(Stage(logits_NK, deltas_N4, decode(deltas_N4, start_N4, weights)))
        return found


def mean_scores(stages: Sequence[Stage]) -> Tensor:
    """Of every class and, last, of the background: [N, K] in 0..1. Classes do not exclude one another."""
    return torch.stack([stage.logits_NK.sigmoid() for stage in stages]).mean(dim=0)


def detections(boxes_N4: Tensor, scores_NK: Tensor, size: tuple[int, int]) -> Detected:
    """The at most 300 best pairs of box and class that are above 0.1 and no near copy of a better one of
    their class.

    Args:
        boxes_N4: in pixels, not yet clipped.
        scores_NK: the last column is the background's.
        size: height and width of the image.
    """
    box_D, classes_D = (scores_NK[:, :-1] > LOWEST).nonzero(as_tuple=True)
    boxes_D4, scores_D = clip(boxes_N4, size)[box_D], scores_NK[box_D, classes_D]
    kept = nms(boxes_D4, scores_D, classes_D, threshold=OVERLAP, limit=MOST)
    kept = kept[is_real(boxes_D4[kept])]
    return Detected(boxes_D4[kept], scores_D[kept], classes_D[kept])
