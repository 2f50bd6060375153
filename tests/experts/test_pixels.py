"""Pictures made ready for CLIP and BLIP, beside the official program's steps written out one by one."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from harness.experts.pixels import MEAN, STD, STRIP, cropped, normalised_3HW, resized_size, squeezed, unit_3HW

torch.set_num_threads(1)


def noise(width: int, height: int, mode: str = "RGB") -> Image.Image:
    return Image.fromarray(
        np.random.default_rng(width + height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    ).convert(mode)


def step_by_step(image: Image.Image, side: int) -> Image.Image:
    """`Resize` and `CenterCrop` of torchvision on a PIL image, then RGB."""
    short, long = sorted(image.size)
    new_long = int(side * long / short)
    image = image.resize(
        (side, new_long) if image.width <= image.height else (new_long, side), Image.Resampling.BICUBIC
    )
    left, top = round((image.width - side) / 2.0), round((image.height - side) / 2.0)
    return image.crop((left, top, left + side, top + side)).convert("RGB")


def test_sizes_are_torchvisions(conformance_dir):
    file = conformance_dir / "t2i_compbench" / "image_resize_sizes.json"
    if not file.is_file():
        pytest.skip(f"there is no {file}")
    cases = json.loads(file.read_text(encoding="utf-8"))["cases"]
    found = [resized_size(case["width"], case["height"], 224) for case in cases]
    assert cases and found == [
        (case["clip_resize"]["width"], case["clip_resize"]["height"]) for case in cases
    ]


@settings(deadline=None, max_examples=60)
@given(
    width=st.integers(1, 90),
    height=st.integers(1, 90),
    mode=st.sampled_from(["RGB", "L", "RGBA", "CMYK", "P", "1", "LA"]),
)
def test_the_middle_is_cut_out_and_colored_last(width, height, mode):
    image = noise(width, height, "L" if mode == "LA" else mode).convert(mode)
    if max(image.size) <= STRIP * min(image.size):
        assert np.array_equal(cropped(image, 28), step_by_step(image, 28))


@pytest.mark.parametrize("size", [(300, 2), (1, 130), (2, 301)])
def test_of_a_strip_only_the_middle_is_made_and_it_is_nearly_the_same(size):
    found, wanted = (np.asarray(way(noise(*size), 28)).astype(int) for way in (cropped, step_by_step))
    assert (
        found.shape == (28, 28, 3)
        and np.abs(found - wanted).max() <= 8
        and np.abs(found - wanted).mean() < 0.5
    )


def test_a_strip_of_twenty_thousand_pixels_needs_no_memory_of_its_own():
    assert cropped(noise(20_000, 1), 224).size == cropped(noise(1, 20_000), 224).size == (224, 224)
    assert squeezed(noise(20_000, 1), 480).size == (480, 480)


@pytest.mark.parametrize("mode", ["L", "RGBA", "CMYK", "P", "I;16"])
@pytest.mark.parametrize("way", [squeezed, cropped])
def test_images_of_any_kind_become_rgb(mode, way):
    image = Image.new("I;16", (3, 2), 700) if mode == "I;16" else noise(3, 2, mode)
    assert (way(image, 8).mode, way(image, 8).size) == ("RGB", (8, 8))


def test_colors_come_first_where_the_shape_is_given_up():
    image = noise(31, 17, "P")
    assert np.array_equal(
        squeezed(image, 24), image.convert("RGB").resize((24, 24), Image.Resampling.BICUBIC)
    )
    assert np.array_equal(squeezed(noise(24, 24), 24), noise(24, 24))


def test_levels_are_normalized_by_clips_numbers():
    pixels = unit_3HW(noise(5, 4))
    assert pixels.shape == (3, 4, 5) and float(pixels.max()) <= 1
    wanted = (np.asarray(noise(5, 4)).transpose(2, 0, 1) / 255 - np.array(MEAN)[:, None, None]) / np.array(
        STD
    )[:, None, None]
    assert normalised_3HW(pixels).numpy() == pytest.approx(wanted, abs=1e-6)
