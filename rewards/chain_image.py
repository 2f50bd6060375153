"""R_RI: is every object where the chain planned it? A grounder finds each planned object in the image."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from harness.planned import mean_iou, planned_boxes
from harness.plugin_values import one_each
from harness.types import Box, Chain, Sample, Score

if TYPE_CHECKING:
    from PIL.Image import Image

    from harness.protocols import Grounder


class ChainImage:
    """Chain-image reward of GoT-R1 (arXiv 2505.17022, section 3): mean IoU over the planned objects.

    An object that is absent from the image or has no planned box counts 0, and so does a chain without
    objects. When a name finds several boxes or is planned several times, found boxes are matched to
    planned ones one to one so that the sum of IoUs is largest: one thing in the image never satisfies
    two planned objects. An unreadable answer leaves the sample unscored.
    """

    name = "ri"
    scope = "both"

    def __init__(self, *, grounder: Grounder) -> None:
        self.grounder = grounder
        self.external: tuple[str, ...] = tuple(getattr(grounder, "external", ()))

    def __call__(self, samples: Sequence[Sample]) -> list[Score]:
        plans = [planned_boxes(sample.chain) for sample in samples]
        images: list[Image] = []
        names: list[str] = []
        for sample, boxes in zip(samples, plans, strict=True):
            images += [sample.image] * len(boxes)
            names += boxes
        found_boxes = self.grounder.locate(images, names) if names else []
        who = f"grounder {type(self.grounder).__name__}"
        answers = iter(one_each(found_boxes, len(names), who, "answers", "question"))
        scores = []
        for sample, boxes in zip(samples, plans, strict=True):
            pairs = {name: (boxes[name], next(answers)) for name in boxes}
            scores.append(self._score(sample.chain, pairs))
        return scores

    def _score(self, chain: Chain, pairs: dict[str, tuple[list[Box], list[Box] | None]]) -> Score:
        evidence = {}
        for name, (planned, found) in pairs.items():
            corners = None if found is None else _corners(found)
            evidence[name] = {"planned": _corners(planned), "found": corners}
        unreadable = [name for name, (_, found) in pairs.items() if found is None]
        if unreadable:
            reason = f"no readable answer where {', '.join(unreadable)} is"
            return Score(value=None, evidence=evidence, unscored=reason)
        if not chain.objects:
            return Score(value=0.0, evidence={"planned": "nothing"})
        found_boxes = {name: found or [] for name, (_, found) in pairs.items()}
        return Score(value=mean_iou(chain, found_boxes), evidence=evidence)


def _corners(boxes: Iterable[Box]) -> list[tuple[int, int, int, int]]:
    return [(box.x1, box.y1, box.x2, box.y2) for box in boxes]
