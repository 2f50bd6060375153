"""A perfect drawer in the shapes world: it paints what a chain plans, where it plans it, and nothing else."""

from __future__ import annotations

from itertools import combinations

from PIL import Image

from benchmarks.shapes.chains import nearest_box
from benchmarks.shapes.relations import PIXELS, Corners, pixels
from benchmarks.shapes.render import render
from benchmarks.shapes.scene import CELL, Scene, SceneObject
from benchmarks.shapes.scoring import shown
from harness.chain import parse


def follow(chain: str) -> Image.Image:
    """The image of a chain: each object that has a box, on the nearest box of the grid."""
    things = []
    for planned in parse(chain).objects:
        if planned.box is None:
            continue
        look = shown(planned.name)
        assert look is not None and look.shape and look.color and look.texture, (
            "a planner names what it draws"
        )
        x1, y1, x2, _ = (int(value) for value in pixels(nearest_box(planned.box)))
        things.append(
            SceneObject(
                shape=look.shape,
                color=look.color,
                texture=look.texture,
                cells=(x2 - x1) // CELL,
                column=x1 // CELL,
                row=y1 // CELL,
            )
        )
    image = render(Scene(objects=tuple(things)))
    assert image.size == (PIXELS, PIXELS)
    return image


def hides_nothing(chain: str) -> bool:
    """Whether no two painted objects touch, so that all of them can be seen."""
    boxes = [nearest_box(planned.box) for planned in parse(chain).objects if planned.box is not None]
    return not any(_touch(pixels(first), pixels(second)) for first, second in combinations(boxes, 2))


def _touch(a: Corners, b: Corners) -> bool:
    return all(a[axis] <= b[axis + 2] and b[axis] <= a[axis + 2] for axis in (0, 1))
