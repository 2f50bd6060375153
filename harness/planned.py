"""The boxes that a chain plans, by name, and how well the objects of an image fill them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.chain import without_control_tokens
from harness.types import Box, Chain, Region

_ARTICLES = ("a ", "an ", "the ")


def planned_boxes(chain: Chain) -> dict[str, list[Box]]:
    """Return the planned boxes by the name that a grounder is asked for, in the order of the chain."""
    boxes: dict[str, list[Box]] = {}
    for planned in chain.objects:
        if planned.box is not None:
            boxes.setdefault(_asked_name(planned.name), []).append(planned.box)
    return boxes


def mean_iou(chain: Chain, found: Mapping[str, Sequence[Region]]) -> float:
    """Return the mean IoU over the planned objects, of which there is at least one.

    An object without a planned box counts 0. Found boxes of a name are matched to its planned ones one to
    one so that the sum of IoUs is largest: one thing in the image never fills two boxes.

    Args:
        chain: the plan.
        found: the boxes in the image for every name of `planned_boxes`; none where it is absent.
    """
    shared = sum(_matched_iou(boxes, found[name]) for name, boxes in planned_boxes(chain).items())
    return min(shared / len(chain.objects), 1.0)


def _asked_name(name: str) -> str:
    """Return one spelling for names of the same object: lower case, single spaces, no leading article."""
    plain = " ".join(without_control_tokens(name).lower().split())
    for article in _ARTICLES:
        if plain.startswith(article):
            return plain.removeprefix(article)
    return plain


def _matched_iou(planned: Sequence[Box], found: Sequence[Region]) -> float:
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
