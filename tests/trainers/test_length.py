"""The penalty for chains near the limit."""

from __future__ import annotations

import pytest

from harness.trainers.length import overlong_penalty


def test_the_penalty_falls_in_a_line_over_the_buffer() -> None:
    found = [overlong_penalty(length, 20, buffer=5, factor=2.0) for length in (0, 15, 16, 18, 20, 25)]
    assert found == pytest.approx([0.0, 0.0, -0.4, -1.2, -2.0, -2.0], abs=1e-12)


def test_without_a_factor_the_limit_costs_half_a_point() -> None:
    assert overlong_penalty(100, 100, buffer=20) == -0.5
    assert overlong_penalty(90, 100, buffer=20) == -0.25
