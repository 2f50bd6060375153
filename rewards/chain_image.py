"""R_RI: is everything where the chain planned it? A grounder finds each planned object in the image."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from harness.chain import without_control_tokens
from harness.types import Box, Chain, Sample, Score

if TYPE_CHECKING:
    from harness.protocols import Grounder

_ARTICLES = ("a ", "an ", "the ")


class ChainImage:
    """Chain-image reward of GoT-R1 (arXiv 2505.17022, section 3): the mean IoU of planned and found boxes over planned objects.

    An absent object, or one planned without a box, counts 0; so does a chain that plans nothing. Where a name finds several
    boxes, or is planned several times, found boxes are given to planned ones one to one so that the sum of IoUs is largest:
    one thing in the image never satisfies two planned ones. An unreadable answer leaves the sample unscored.
    """

    name = "ri"

    def __init__(self, *, grounder: Grounder) -> None:
        self.grounder = grounder

    def __call__(self, samples: Sequence[Sample]) -> list[Score]:
        planned = [_boxes_by_name(sample.chain) for sample in samples]
        asked = [
            (sample.image, name) for sample, boxes in zip(samples, planned, strict=True) for name in boxes
        ]
        found = (
            list(self.grounder.locate([image for image, _ in asked], [name for _, name in asked]))
            if asked
            else []
        )
        if len(found) != len(asked):
            raise ValueError(
                f"grounder {type(self.grounder).__name__} gave {len(found)} answers to {len(asked)} questions: one each, in order"
            )
        answers = iter(found)
        return [
            self._score(sample.chain, {name: (boxes[name], next(answers)) for name in boxes})
            for sample, boxes in zip(samples, planned, strict=True)
        ]

    def _score(self, chain: Chain, pairs: dict[str, tuple[list[Box], list[Box] | None]]) -> Score:
        evidence = {
            name: {"planned": _corners(boxes), "found": None if found is None else _corners(found)}
            for name, (boxes, found) in pairs.items()
        }
        if unreadable := [name for name, (_, found) in pairs.items() if found is None]:
            return Score(
                value=None, evidence=evidence, unscored=f"no readable answer where {', '.join(unreadable)} is"
            )
        if not chain.objects:
            return Score(value=0.0, evidence={"planned": "nothing"})
        shared = sum(_matched_iou(boxes, found or []) for boxes, found in pairs.values())
        return Score(value=min(shared / len(chain.objects), 1.0), evidence=evidence)


def _boxes_by_name(chain: Chain) -> dict[str, list[Box]]:
    """The planned boxes under the name a grounder is asked for, in the order of the chain."""
    boxes: dict[str, list[Box]] = {}
    for thing in chain.objects:
        if thing.box is not None:
            boxes.setdefault(_asked_name(thing.name), []).append(thing.box)
    return boxes


def _asked_name(name: str) -> str:
    """One spelling for names that ask for the same: lower case, single spaces, no article in front."""
    plain = " ".join(without_control_tokens(name).lower().split())
    return next((plain.removeprefix(article) for article in _ARTICLES if plain.startswith(article)), plain)


def _matched_iou(planned: Sequence[Box], found: Sequence[Box]) -> float:
    """The largest sum of IoUs over one-to-one pairs of planned and found boxes."""
    table = [[want.iou(box) for box in found] for want in planned]
    if not found:
        return 0.0
    if len(planned) == 1:
        return max(table[0])
    from scipy.optimize import (
        linear_sum_assignment,  # here because importing scipy costs more than most plans need
    )

    rows, columns = linear_sum_assignment(table, maximize=True)
    return float(sum(table[row][column] for row, column in zip(rows, columns, strict=True)))


def _corners(boxes: Iterable[Box]) -> list[tuple[int, int, int, int]]:
    return [(box.x1, box.y1, box.x2, box.y2) for box in boxes]
