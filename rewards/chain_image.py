"""R_RI: is every object where the chain planned it? A grounder finds each planned object in the image."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from harness.chain import without_control_tokens
from harness.plugin_values import one_each
from harness.types import Box, Chain, Sample, Score

if TYPE_CHECKING:
    from PIL.Image import Image

    from harness.protocols import Grounder

_ARTICLES = ("a ", "an ", "the ")


class ChainImage:
    """Chain-image reward of GoT-R1 (arXiv 2505.17022, section 3): mean IoU over the planned objects.

    An object that is absent from the image or has no planned box counts 0, and so does a chain without
    objects. When a name finds several boxes or is planned several times, found boxes are matched to
    planned ones one to one so that the sum of IoUs is largest: one thing in the image never satisfies
    two planned objects. An unreadable answer leaves the sample unscored.
    """

    name = "ri"

    def __init__(self, *, grounder: Grounder) -> None:
        self.grounder = grounder
        self.external: tuple[str, ...] = tuple(getattr(grounder, "external", ()))

    def __call__(self, samples: Sequence[Sample]) -> list[Score]:
        planned_boxes = [_boxes_by_name(sample.chain) for sample in samples]
        images: list[Image] = []
        names: list[str] = []
        for sample, boxes in zip(samples, planned_boxes, strict=True):
            images += [sample.image] * len(boxes)
            names += boxes
        found_boxes = self.grounder.locate(images, names) if names else []
        who = f"grounder {type(self.grounder).__name__}"
        answers = iter(one_each(found_boxes, len(names), who, "answers", "question"))
        scores = []
        for sample, boxes in zip(samples, planned_boxes, strict=True):
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
        shared = sum(_matched_iou(planned, found or []) for planned, found in pairs.values())
        return Score(value=min(shared / len(chain.objects), 1.0), evidence=evidence)


def _boxes_by_name(chain: Chain) -> dict[str, list[Box]]:
    """Return the planned boxes by the name that the grounder is asked for, in the order of the chain."""
    boxes: dict[str, list[Box]] = {}
    for planned in chain.objects:
        if planned.box is not None:
            boxes.setdefault(_asked_name(planned.name), []).append(planned.box)
    return boxes


def _asked_name(name: str) -> str:
    """Return one spelling for names of the same object: lower case, single spaces, no leading article."""
    plain = " ".join(without_control_tokens(name).lower().split())
    for article in _ARTICLES:
        if plain.startswith(article):
            return plain.removeprefix(article)
    return plain


def _matched_iou(planned: Sequence[Box], found: Sequence[Box]) -> float:
    """Return the largest sum of IoUs over one-to-one pairs of planned and found boxes."""
    if not found:
        return 0.0
    table = []
    for box in planned:
        table.append([box.iou(other) for other in found])
    if len(planned) == 1:
        return max(table[0])
    from scipy.optimize import linear_sum_assignment  # a slow import, which most chains do not need

    rows, columns = linear_sum_assignment(table, maximize=True)
    return float(sum(table[row][column] for row, column in zip(rows, columns, strict=True)))


def _corners(boxes: Iterable[Box]) -> list[tuple[int, int, int, int]]:
    return [(box.x1, box.y1, box.x2, box.y2) for box in boxes]
