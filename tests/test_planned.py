"""Planned boxes by name, and their mean IoU with what an image shows."""

from __future__ import annotations

import pytest

from harness.chain import format_chain, parse
from harness.planned import mean_iou, planned_boxes
from harness.types import Box, Chain, PlannedObject, Region

LEFT, RIGHT = Box(0, 0, 400, 400), Box(600, 0, 1000, 400)


def chain_of(*objects: tuple[str, Box | None]) -> Chain:
    return parse(format_chain(*[PlannedObject(name=name, box=box) for name, box in objects]))


def test_names_of_one_object_share_their_boxes_and_the_boxless_have_none() -> None:
    chain = chain_of(("A red  Cup", LEFT), ("red cup", RIGHT), ("the table", None))
    assert planned_boxes(chain) == {"red cup": [LEFT, RIGHT]}


def test_an_absent_object_and_one_without_a_box_count_nothing() -> None:
    chain = chain_of(("cup", LEFT), ("dog", RIGHT), ("table", None), ("cat", LEFT))
    found = {"cup": [LEFT], "dog": [], "cat": [Region(0.0, 0.0, 400.0, 200.0)]}
    assert mean_iou(chain, found) == pytest.approx((1 + 0 + 0 + 0.5) / 4)


def test_one_thing_in_the_image_fills_one_of_two_boxes() -> None:
    chain = chain_of(("cup", LEFT), ("cup", RIGHT))
    assert mean_iou(chain, {"cup": [RIGHT]}) == 0.5
    assert mean_iou(chain, {"cup": [RIGHT, LEFT]}) == 1.0
