"""A chain written from the prompt, with boxes of the sizes and places that the model itself plans."""

from __future__ import annotations

from harness.interventions.case import Case, Change
from harness.interventions.constructed import NOTHING_SAID, TOGETHER, Constructed, construct, said
from harness.interventions.edits import LIMIT, centered
from harness.relations import AXES, LEFT, centers_agree
from harness.types import Box

TRIES = 200
NEAR, FAR = 300, 700  # centers along the axis where no pair of the pool fits


class Statistics(Constructed):
    """Draws two boxes of the pool until they satisfy the relation, and writes a chain with them.

    If none of 200 pairs does, the last one keeps its sizes and moves apart along the relation's axis.
    """

    kind = "stats"

    def __call__(self, case: Case) -> Change:
        if said(case.reading) is None:
            return case.unedited(NOTHING_SAID)
        if not case.pool.boxes:
            return case.unedited("no chain of the split has a box")
        boxes = draw_boxes(case)
        if boxes is None:
            return case.unedited("no two boxes of the split's chains satisfy the relation")
        return construct(case, self._style, self._text, boxes)


def draw_boxes(case: Case) -> tuple[Box, Box] | None:
    """Return boxes of subject and object; None where no drawn pair fits and none can be moved to fit."""
    relation = said(case.reading)
    assert relation is not None
    for _ in range(TRIES):
        first, second = case.rng.choice(case.pool.boxes), case.rng.choice(case.pool.boxes)
        if _fit(case, case.reading.place(first), case.reading.place(second), relation.word):
            return _within(case, first, first.center), _within(case, second, second.center)
    word = LEFT if relation.word == TOGETHER else relation.word
    if word not in AXES:
        return None
    axis, side = AXES[word]
    centers = (NEAR, FAR) if side < 0 else (FAR, NEAR)
    moved = []
    for box, position in zip((first, second), centers, strict=True):
        center = (position, box.center[1]) if axis == 0 else (box.center[0], position)
        moved.append(_within(case, box, center))
    return moved[0], moved[1]


def _fit(case: Case, subject: Box, other: Box, word: str) -> bool:
    """Whether two boxes fit the prompt; colored objects stand left and right of each other."""
    return centers_agree(LEFT, subject, other) if word == TOGETHER else case.reading.holds(subject, other)


def _within(case: Case, box: Box, center: tuple[float, float]) -> Box:
    return case.reading.place(centered(box, center, LIMIT))
