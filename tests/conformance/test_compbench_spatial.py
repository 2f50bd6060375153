"""What the unmodified official scripts of T2I-CompBench computed for 2D- and 3D-spatial, to 1e-9."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks.t2i_compbench.language.tokens import Token
from benchmarks.t2i_compbench.rules.depth import position_3d, score_3d
from benchmarks.t2i_compbench.rules.frame import clip_size, frame_size
from benchmarks.t2i_compbench.rules.relations import position
from benchmarks.t2i_compbench.rules.spatial import score_2d
from harness.types import Detections

FRAME = (480, 480)  # of the published depth maps


@pytest.fixture(scope="module")
def published(conformance_dir):
    def read(name):
        file = conformance_dir / "t2i_compbench" / name
        if not file.is_file():
            pytest.skip(f"no {name} in {file.parent}")
        return json.loads(file.read_text(encoding="utf-8"))

    return read


def depth_map(grid):
    grid = np.array(grid, dtype=np.uint8)
    return np.kron(grid, np.ones((40, 40), dtype=np.uint8)).astype(np.float32) / np.float32(255)


def read_case(case):
    tokens = [Token(text, pos) for text, pos in zip(case["tokens"], case["pos"], strict=True)]
    boxes = tuple(map(tuple, case["boxes"]))
    return tokens, Detections(
        frame=FRAME, labels=tuple(case["labels"]), boxes=boxes, scores=tuple(case["scores"])
    )


def average(text):
    """The number that the official script wrote for the whole run."""
    return float(text.removeprefix("score avg:").removeprefix("avg score is"))


def test_positions_in_the_plane(published):
    vectors = published("compbench_position_2d.json")
    cases = vectors["cases"] + vectors["edge_cases"]
    assert cases
    for case in cases:
        found = [
            position(locality, tuple(case["box1"]), tuple(case["box2"]))
            for locality in vectors["meta"]["localities"]
        ]
        assert found == pytest.approx(case["scores"], abs=1e-9), case


def test_positions_in_depth(published):
    vectors = published("compbench_position_3d.json")
    cases = vectors["cases"] + vectors["edge_cases"]
    assert cases
    for case in cases:
        depth = depth_map(case["depth_grid_12x12"])
        found = [
            position_3d(locality, tuple(case["box1"]), tuple(case["box2"]), depth)
            for locality in vectors["meta"]["localities"]
        ]
        assert found == pytest.approx(case["scores"], abs=1e-9), case


@pytest.mark.parametrize(
    ("name", "complex_prompt"), [("compbench_2d_simple.json", False), ("compbench_2d_complex.json", True)]
)
def test_images_in_the_plane(published, name, complex_prompt):
    vectors = published(name)
    values = []
    for case in vectors["cases"]:
        tokens, found = read_case(case)
        score = score_2d(case["prompt"], tokens, found, complex_prompt=complex_prompt, mode="official")
        assert (score.objects, score.locality) == ((case["obj1"], case["obj2"]), case["locality"]), case
        assert (score.value, score.before_cut) == pytest.approx(
            (case["score"], case["score_before_cut"]), abs=1e-9
        ), case
        values.append(score.value)
    assert np.mean(values) == pytest.approx(average(vectors["meta"]["avg_score_txt"]), abs=1e-9)


def test_images_in_depth(published):
    vectors = published("compbench_3d_images.json")
    values = []
    for case in vectors["cases"]:
        tokens, found = read_case(case)
        score = score_3d(case["prompt"], tokens, found, depth_map(case["depth_grid_12x12"]), mode="official")
        assert score.value == pytest.approx(case["score"], abs=1e-9), case
        values.append(score.value)
    assert np.mean(values) == pytest.approx(average(vectors["meta"]["avg_result_txt"]), abs=1e-9)


def test_sizes_of_frames(published):
    cases = published("image_resize_sizes.json")["cases"]
    assert cases
    for case in cases:
        size = case["width"], case["height"]
        assert frame_size(*size) == (case["unidet"]["width"], case["unidet"]["height"]), case
        assert clip_size(*size) == (case["clip_resize"]["width"], case["clip_resize"]["height"]), case
