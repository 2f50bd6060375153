"""Regions and boxes: rectangles on the canvas scale."""

from __future__ import annotations

import pytest

from harness.types import Box, Region


def test_a_region_may_leave_the_canvas_and_a_box_may_not() -> None:
    region = Region(-0.5, 0.0, 1000.5, 10.0)
    assert region.area == pytest.approx(10010) and region.center == (500, 5)
    with pytest.raises(ValueError, match=r"box \(-1,0\),\(1000,10\) is not within 0\.\.1000"):
        Box(-1, 0, 1000, 10)


def test_the_iou_of_a_box_and_a_region_counts_what_lies_outside_the_canvas() -> None:
    box, region = Box(0, 0, 100, 100), Region(-100.0, 0.0, 100.0, 100.0)
    assert box.iou(region) == region.iou(box) == 0.5
    assert box.iou(Region(200.0, 0.0, 300.0, 100.0)) == 0.0
    assert Box(1, 1, 1, 1).iou(Box(1, 1, 1, 1)) == 0.0, "empty boxes share nothing"
