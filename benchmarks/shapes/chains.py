"""Chains of this world as interventions read and write them: roles, boxes on the grid, clean chains."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import ceil
from random import Random

from benchmarks.shapes.facts import Facts
from benchmarks.shapes.relations import OPPOSITE, SIZES, Corners, pixels, thousandths
from benchmarks.shapes.scene import BIG, CELL, GRID, SMALL, Place, complete, write_chain
from benchmarks.shapes.scoring import find
from harness.relations import Roles, boxed_places
from harness.types import CANVAS, Box, Chain, Detection, PlannedObject

SIDE_BY_SIDE: tuple[Place, Place] = ((0, 2), (4, 2))  # clean places of subject and object, from left to right
ABOVE: tuple[Place, Place] = ((2, 0), (2, 4))  # from top to bottom


def roles_of(facts: Facts, chain: Chain) -> Roles | None:
    """The places of subject and object in a chain: the boxed objects that have all the facts say of them."""
    boxed = boxed_places(chain)
    planned = [_as_seen(chain.objects[place]) for place in boxed]
    subject, other = find(facts.objects, planned)[:2]
    if subject is None or other is None:
        return None
    return boxed[planned.index(subject)], boxed[planned.index(other)]


def nearest_box(box: Box) -> Box:
    """The nearest box on the grid: of the same size in cells, its corner at the nearest cell, ties to the
    smaller.
    """
    width, height = (min(max(_cells(size), 1), GRID) for size in (box.x2 - box.x1, box.y2 - box.y1))
    column, row = min(_cells(box.x1), GRID - width), min(_cells(box.y1), GRID - height)
    return _box((column, row), width, height)


def clean_chain(facts: Facts, relation: str, style: str, boxes: tuple[Box, Box] | None, rng: Random) -> str:
    """The chain of a scene that shows the facts: with these boxes of the first two objects, or clean ones.

    What the facts leave open is drawn. A third object stands where it is farthest from touching the others.
    `verbose` says the relation once more, from the second object's side.
    """
    first, second = boxes or _clean_boxes(relation, crowded=len(facts.objects) > 2)
    placed = [first, second, *(_free_box([first, second]) for _ in facts.objects[2:])]
    planned = [
        PlannedObject(name=complete(rng, said).name, box=box)
        for said, box in zip(facts.objects, placed, strict=True)
    ]
    mirrored = f" A {planned[1].name} {OPPOSITE.get(relation, relation)} a {planned[0].name}."
    return write_chain(planned, relation, mirrored if style == "verbose" else "")


def _clean_boxes(relation: str, *, crowded: bool) -> tuple[Box, Box]:
    """Boxes of subject and object, at the edge of the canvas if a third object needs the other half."""
    first, second = ABOVE if relation in ("on the top of", "on the bottom of") else SIDE_BY_SIDE
    if crowded:
        axis = 1 if first[0] != second[0] else 0
        first, second = _at_edge(first, axis), _at_edge(second, axis)
    if relation in (
        "on the right of",
        "on the bottom of",
        "smaller than",
    ):  # a big object has room on the left
        first, second = second, first
    sizes = [BIG if relation == word else SMALL for word in SIZES]  # of subject and object
    return _box(first, sizes[0], sizes[0]), _box(second, sizes[1], sizes[1])


def _at_edge(place: Place, axis: int) -> Place:
    return (0, place[1]) if axis == 0 else (place[0], 0)


def _free_box(taken: Sequence[Box]) -> Box:
    """The first place of a small object that has a cell between itself and all others, or the emptiest."""
    places = list(product(range(GRID - SMALL + 1), repeat=2))
    grown = [_grown(pixels(box)) for box in taken]
    return min(
        (_box((column, row), SMALL, SMALL) for row, column in places),
        key=lambda box: sum(_shared(pixels(box), other) for other in grown),
    )


def _grown(corners: Corners) -> Corners:
    return corners[0] - CELL, corners[1] - CELL, corners[2] + CELL, corners[3] + CELL


def _shared(a: Corners, b: Corners) -> float:
    """The area that two boxes share, in square pixels."""
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def _cells(length: int) -> int:
    """The nearest whole number of cells, of two the smaller."""
    return ceil(length * GRID / CANVAS - 0.5)


def _box(place: Place, width: int, height: int) -> Box:
    x, y = place[0] * CELL, place[1] * CELL
    return thousandths((x, y, x + width * CELL, y + height * CELL))


def _as_seen(planned: PlannedObject) -> Detection:
    assert planned.box is not None
    return Detection(label=planned.name, box=planned.box, score=1.0)
