"""3-in-1: which scores a complex prompt is measured by, and their mean, in both modes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.mode import Mode
from benchmarks.t2i_compbench.rules.merge import Route, key, merge, route

MODES: tuple[Mode, ...] = ("official", "corrected")
ROUTES: tuple[Route, ...] = ("spatial", "action", "both")


def test_a_prompt_goes_by_its_first_sentence_in_lower_case() -> None:
    assert key("The cup is RED. So is the vase.") == "the cup is red"
    assert key("no stop") == "no stop"
    assert key(".") == key("") == ""


def test_routes() -> None:
    spatial, action = {"a cup on a table", "in both"}, {"a cat jumps", "in both"}
    assert route("A cup on a table.", spatial, action) == "spatial"
    assert route("A cat jumps. And sleeps.", spatial, action) == "action"
    assert route("In both.", spatial, action) == "spatial"
    assert route("A cat jumps ", spatial, action) == "both", "spaces count"


@pytest.mark.parametrize(("which", "value"), [("spatial", 0.6), ("action", 0.5), ("both", 1.4 / 3)])
def test_official_means_take_the_cosine_as_it_is(which: Route, value: float) -> None:
    assert merge(which, 0.8, 0.4, 0.2, mode="official") == pytest.approx(value)


@pytest.mark.parametrize(("cosine", "scaled"), [(0.3, 0.75), (0.5, 1.0), (-0.2, 0.0), (0.0, 0.0)])
def test_corrected_means_take_clipscore(cosine: float, scaled: float) -> None:
    """Q20."""
    assert merge("action", 0.5, None, cosine, mode="corrected") == pytest.approx((0.5 + scaled) / 2)
    assert merge("both", 0.5, 0.1, cosine, mode="corrected") == pytest.approx((0.5 + 0.1 + scaled) / 3)
    assert merge("action", 0.5, None, cosine, mode="official") == pytest.approx((0.5 + cosine) / 2)


@pytest.mark.parametrize("mode", MODES)
def test_what_the_route_leaves_out_may_be_missing(mode: Mode) -> None:
    assert merge("spatial", 1.0, 0.5, None, mode=mode) == 0.75
    assert merge("action", 1.0, None, 0.4, mode=mode) == (0.7 if mode == "official" else 1.0)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("which", "spatial", "clip"),
    [("spatial", None, 0.1), ("action", 0.1, None), ("both", None, 0.1), ("both", 0.1, None)],
)
def test_what_the_route_needs_may_not(
    which: Route, spatial: float | None, clip: float | None, mode: Mode
) -> None:
    with pytest.raises(ValueError, match=f"route '{which}' lacks a score"):
        merge(which, 0.5, spatial, clip, mode=mode)


@given(st.sampled_from(ROUTES), st.sampled_from(MODES), *[st.floats(0, 1)] * 3)
def test_a_mean_of_parts_between_0_and_1_is_too(
    which: Route, mode: Mode, attribute: float, spatial: float, clip: float
) -> None:
    assert 0 <= merge(which, attribute, spatial, clip, mode=mode) <= 1
