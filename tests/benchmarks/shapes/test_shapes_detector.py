from __future__ import annotations

from random import Random

import numpy as np
import pytest
from PIL import Image, ImageFilter

from benchmarks.shapes.detector import ShapesDetector
from benchmarks.shapes.facts import Facts
from benchmarks.shapes.prompts import CATEGORIES, sample_facts
from benchmarks.shapes.render import render
from benchmarks.shapes.scene import BIG, CELL, GRID, SMALL, Scene, SceneObject, sample_scene
from benchmarks.shapes.vocabulary import COLORS, SHAPES, TEXTURES
from harness.types import Detection


def scenes(count: int, *, unseen: bool | None = None) -> list[Scene]:
    rng = Random(7)
    found: list[Scene] = []
    while len(found) < count:
        facts = sample_facts(rng, rng.choice(CATEGORIES))
        if unseen is None or facts.unseen == unseen:
            found.append(sample_scene(rng, facts))
    return found


def thing(name: str, column: int, row: int, cells: int = SMALL) -> SceneObject:
    color, texture, shape = name.split()
    return SceneObject(shape=shape, color=color, texture=texture, cells=cells, column=column, row=row)


def by_place(detections: list[Detection]) -> list[tuple[int, int, str, object, float]]:
    return sorted((seen.box.y1, seen.box.x1, seen.label, seen.box, seen.score) for seen in detections)


def cells_of(images: list[Image.Image]) -> set[bytes]:
    patches: set[bytes] = set()
    for image in images:
        grid = np.asarray(image).reshape(GRID, CELL, GRID, CELL, 3).swapaxes(1, 2).reshape(GRID * GRID, -1)
        patches |= {patch.tobytes() for patch in grid}
    return patches


def test_exact_on_thousands_of_random_scenes():
    drawn = scenes(3000)
    seen = ShapesDetector().detect([render(scene) for scene in drawn])
    for scene, detections in zip(drawn, seen, strict=True):
        assert by_place(detections) == by_place(scene.detections())


def test_exact_on_every_object_at_every_place():
    drawn = [
        Scene(objects=(thing(f"{color} {texture} {shape}", column, row, cells),))
        for color in COLORS
        for texture in TEXTURES
        for shape in SHAPES
        for cells in (SMALL, BIG)
        for column in range(GRID - cells + 1)
        for row in range(0, GRID - cells + 1, 2)
    ]
    seen = ShapesDetector().detect([render(scene) for scene in drawn])
    assert seen == [scene.detections() for scene in drawn]


def test_separates_neighbours_of_one_color_and_touching_ones_of_two():
    same = Scene(
        objects=(
            thing("red plain square", 0, 0),
            thing("red plain square", 3, 0),
            thing("red striped circle", 1, 3, BIG),
        )
    )
    touching = Scene(objects=(thing("red dotted square", 0, 0), thing("blue striped square", 2, 0)))
    for scene, detections in zip(
        (same, touching), ShapesDetector().detect([render(same), render(touching)]), strict=True
    ):
        assert sorted(seen.label for seen in detections) == sorted(
            drawn.attributes.name for drawn in scene.objects
        )
        assert all(seen.score > 0.9 for seen in detections)


def test_half_an_object_and_a_patchwork_of_colors_score_low():
    picture = np.asarray(render(Scene(objects=(thing("red plain circle", 1, 1, BIG),)))).copy()
    half = picture.copy()
    half[:10] = 255
    mixed = picture.copy()
    mixed[:10][(mixed[:10] != 255).any(-1)] = COLORS["blue"]
    for image in (half, mixed):
        assert all(seen.score < 0.8 for seen in ShapesDetector().detect([Image.fromarray(image)])[0])


def test_holds_up_on_imperfect_pictures():
    drawn = scenes(300)
    rng = np.random.default_rng(0)
    images = []
    for scene in drawn:
        blurred = np.asarray(render(scene).filter(ImageFilter.GaussianBlur(0.4)), np.float64)
        images.append(
            Image.fromarray(np.clip(blurred + rng.normal(0, 20, blurred.shape), 0, 255).astype(np.uint8))
        )
    for scene, detections in zip(drawn, ShapesDetector().detect(images), strict=True):
        assert sorted(seen.label for seen in detections) == sorted(
            thing.attributes.name for thing in scene.objects
        )
        assert all(seen.score > 0.8 for seen in detections)


@pytest.mark.parametrize("size", [(24, 24), (96, 96), (24, 30), (7, 3)])
def test_noise_never_raises(size):
    rng = np.random.default_rng(1)
    images = [Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)) for _ in range(40)]
    assert len(ShapesDetector().detect(images)) == 40


def test_random_cells_of_the_world_give_valid_detections():
    rng = np.random.default_rng(2)
    patches = np.array(
        [
            np.frombuffer(patch, np.uint8)
            for patch in sorted(cells_of([render(scene) for scene in scenes(300)]))
        ]
    )
    mosaics = patches[rng.integers(0, len(patches), (200, GRID * GRID))].reshape(
        -1, GRID, GRID, CELL, CELL, 3
    )
    pictures = mosaics.swapaxes(2, 3).reshape(-1, GRID * CELL, GRID * CELL, 3)
    for detections in ShapesDetector().detect([Image.fromarray(picture) for picture in pictures]):
        assert all(0.5 <= seen.score <= 1 for seen in detections)
        assert [seen.score for seen in detections] == sorted(
            (seen.score for seen in detections), reverse=True
        )


def test_blank_dark_enlarged_grey_and_no_pictures():
    detector = ShapesDetector()
    scene = Scene(objects=(thing("cyan striped diamond", 2, 1, BIG),))
    assert detector.detect([]) == []
    assert detector.detect([Image.new("RGB", (24, 24), "white"), Image.new("L", (24, 24), 0)]) == [[], []]
    assert detector.detect([render(scene).resize((384, 384), Image.Resampling.NEAREST)]) == [
        scene.detections()
    ]


def test_the_codebook_of_the_tiny_janus_holds_every_cell():
    assert len(cells_of([render(scene) for scene in scenes(5000)])) <= 384


def test_scenes_keep_a_cell_of_distance():
    for scene in scenes(500):
        taken = np.zeros((GRID + 2, GRID + 2), int)
        for drawn in scene.objects:
            taken[
                drawn.row + 1 : drawn.row + drawn.cells + 1, drawn.column + 1 : drawn.column + drawn.cells + 1
            ] += 1
            ring = taken[
                drawn.row : drawn.row + drawn.cells + 2, drawn.column : drawn.column + drawn.cells + 2
            ]
            assert ring.sum() == drawn.cells**2


def test_facts_left_open_are_filled_in():
    facts = Facts.read(
        {"objects": [{"shape": None, "colour": None, "texture": None}], "relation": None, "phrasing": None}
    )
    assert facts is not None
    drawn = sample_scene(Random(0), facts).objects[0]
    assert drawn.shape in SHAPES and drawn.color in COLORS and drawn.texture == "plain"
