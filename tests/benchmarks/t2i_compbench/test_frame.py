import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.t2i_compbench.rules.frame import clip_size, frame_size


@pytest.mark.parametrize(
    ("size", "frame"),
    [
        ((512, 512), (479, 479)),
        ((1, 1), (479, 479)),
        ((480, 480), (479, 479)),
        ((768, 512), (480, 320)),
        ((512, 768), (320, 480)),
    ],
)
def test_the_frame_of_a_picture(size, frame):
    assert frame_size(*size) == frame


def test_clip_sees_the_short_side_at_224():
    assert clip_size(768, 512) == (336, 224)
    assert clip_size(20_000, 1) == (4_480_000, 224)


@settings(deadline=None)
@given(st.integers(1, 20_000), st.integers(1, 20_000))
def test_no_side_of_a_frame_is_longer_than_480_and_turning_the_picture_turns_the_frame(width, height):
    if max(width, height) > 400 * min(width, height):
        return
    found = frame_size(width, height)
    assert max(found) <= 480 and min(found) >= 1 and frame_size(height, width) == found[::-1]


@pytest.mark.parametrize("size", [(0, 10), (10, 0), (-3, 5)])
def test_a_picture_without_pixels_is_refused(size):
    for rule in (frame_size, clip_size):
        with pytest.raises(ValueError, match="both sides are at least 1"):
            rule(*size)


def test_a_picture_that_would_vanish_in_the_frame_is_refused():
    with pytest.raises(
        ValueError, match="20000 x 1 pixels would be less than one pixel wide in a frame of 480: crop it"
    ):
        frame_size(20_000, 1)
