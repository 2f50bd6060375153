"""Scenes: objects on a grid of 6 x 6 cells.

Rule of placement: at least one empty cell lies between any two objects, also diagonally. So objects of
one color are always separate regions, and a scene has at most one big object.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from random import Random

from benchmarks.shapes.facts import Facts
from benchmarks.shapes.relations import PIXELS, SIZES, Corners, holds, thousandths
from benchmarks.shapes.vocabulary import COLORS, SHAPES, Attributes
from harness.chain import format_chain
from harness.types import Box, Detection, PlannedObject

CELL = 4  # pixels
GRID = PIXELS // CELL  # cells along each side
SMALL, BIG = 2, 3  # cells along each side of an object
BIG_SHARE = 0.5  # of the scenes without a size relation: one object, any, is big

Place = tuple[int, int]  # column, row of an object's top left cell


@dataclass(frozen=True, kw_only=True)
class SceneObject:
    """One drawn object: its top left cell and its side in cells."""

    shape: str
    color: str
    texture: str
    cells: int
    column: int
    row: int

    @property
    def attributes(self) -> Attributes:
        """How it looks."""
        return Attributes(shape=self.shape, color=self.color, texture=self.texture)

    @property
    def corners(self) -> tuple[int, int, int, int]:
        """x1, y1, x2, y2 in pixels."""
        x, y, side = self.column * CELL, self.row * CELL, self.cells * CELL
        return x, y, x + side, y + side

    @property
    def box(self) -> Box:
        """The same on the 0..1000 scale."""
        return thousandths(self.corners)


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Objects and, where one is worth saying, the relation of the first to the second."""

    objects: tuple[SceneObject, ...]
    relation: str | None = None

    def detections(self) -> list[Detection]:
        """What an exact detector reports."""
        return [Detection(label=thing.attributes.name, box=thing.box, score=1.0) for thing in self.objects]

    def chain(self) -> str:
        """The plan of this scene, e.g. `A [red circle] on the left of a [blue square].` with its boxes.

        The order is subject, relation, object, whatever the prompt's phrasing; sizes are in the boxes alone.
        """
        planned = [PlannedObject(name=thing.attributes.name, box=thing.box) for thing in self.objects]
        return write_chain(planned, self.relation)


def write_chain(objects: Sequence[PlannedObject], relation: str | None, more: str = "") -> str:
    """The plan of these objects, with the relation of the first two, and `more` text at its end."""
    parts: list[str | PlannedObject] = ["A "]
    for index, planned in enumerate(objects):
        parts += [planned, _link(len(objects) - 1 - index, relation if index == 0 else None)]
    return format_chain(*parts, more)


def _link(left: int, relation: str | None) -> str:
    """What stands after an object that `left` others follow."""
    if not left:
        return "."
    if relation:
        return f" {relation} a "
    return " and a " if left == 1 else ", a "


def sample_scene(rng: Random, facts: Facts) -> Scene:
    """A random scene that shows what the facts say.

    An object is plain unless its texture is said; what else is left open is drawn at random.
    """
    sizes = sample_sizes(rng, facts)
    places = rng.choice(placements(sizes, facts.relation))
    objects = tuple(
        place_object(complete(rng, said), cells, place)
        for said, cells, place in zip(facts.objects, sizes, places, strict=True)
    )
    return Scene(objects=objects, relation=facts.relation)


def place_object(shown: Attributes, cells: int, place: Place) -> SceneObject:
    """The object with these attributes (all of them given) at that place."""
    assert shown.shape is not None and shown.color is not None and shown.texture is not None
    return SceneObject(
        shape=shown.shape,
        color=shown.color,
        texture=shown.texture,
        cells=cells,
        column=place[0],
        row=place[1],
    )


def complete(rng: Random, said: Attributes) -> Attributes:
    """Fills in what is not said."""
    shape = said.shape or rng.choice(SHAPES)
    color = said.color or rng.choice(tuple(COLORS))
    return Attributes(shape=shape, color=color, texture=said.texture or "plain")


def sample_sizes(rng: Random, facts: Facts) -> tuple[int, ...]:
    """Sides in cells, one per object."""
    sizes = [SMALL] * len(facts.objects)
    if facts.relation in SIZES:
        sizes[0 if facts.relation == "bigger than" else 1] = BIG
    elif rng.random() < BIG_SHARE:
        sizes[rng.randrange(len(sizes))] = BIG
    return tuple(sizes)


@cache
def placements(sizes: tuple[int, ...], relation: str | None) -> tuple[tuple[Place, ...], ...]:
    """All placements of objects of these sizes that keep their distance and satisfy the relation of the
    first two.
    """
    free = [range(GRID - cells + 1) for cells in sizes]
    options: list[list[Place]] = [list(product(starts, starts)) for starts in free]
    partial: list[tuple[Place, ...]] = [(place,) for place in options[0]]
    for index in range(1, len(sizes)):
        longer = []
        for places, place in product(partial, options[index]):
            if not all(_apart(other, sizes[i], place, sizes[index]) for i, other in enumerate(places)):
                continue
            if index == 1 and relation is not None:
                corners = _corners(places[0], sizes[0]), _corners(place, sizes[1])
                if holds(relation, *corners) != 1:
                    continue
            longer.append((*places, place))
        partial = longer
    return tuple(partial)


def _apart(a: Place, a_cells: int, b: Place, b_cells: int) -> bool:
    """Whether a whole empty cell lies between the two along at least one axis."""
    return any(a[axis] + a_cells < b[axis] or b[axis] + b_cells < a[axis] for axis in (0, 1))


def _corners(place: Place, cells: int) -> Corners:
    x, y, side = place[0] * CELL, place[1] * CELL, cells * CELL
    return x, y, x + side, y + side
