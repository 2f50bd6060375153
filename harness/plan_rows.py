"""The rows of `plans.jsonl`: whether chain and image of a sample have the relation that its prompt says.

`PlanRow` is the only reader and writer of these rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

Corners = tuple[float, float, float, float]  # x1, y1, x2, y2


@dataclass(frozen=True, kw_only=True)
class PlanRow:
    """A row of `plans.jsonl`, about the sample `index`. What was not measured is None, never false or 0.

    Attributes:
        index: of the sample, as are `prompt_id`, `category`, `number` and `seed`.
        relation: the word of the prompt's relation; None where it says none. `directional`: whether that is
            left, right, top or bottom.
        planned: the boxes of subject and object in the chain that was drawn, on 0..1000; None where one is
            missing.
        found: their boxes in the image, on 0..1000; None where one was not found.
        plan_right: whether the relation holds between the planned boxes by the benchmark's own rule, false
            where a box is missing. `plan_right_center` is the same by the order of centers.
        image_right: the same for the found boxes. `image_right_center` is the same by the order of centers.
        followed: whether the prompt's word is true of the planned and of the found centers, or of neither;
            for directional prompts where all four boxes exist.
        iou: the mean over subject and object of the IoU of planned and found box, where all four exist.
        ri: the mean over all planned objects of the IoU with what the image shows of them (an absent one
            counts 0); None where nothing is planned or nobody can find it.
        applied: whether the sample's intervention was applied; None where there was no intervention.
        nll: the mean of -log p over the ids of the drawn chain, in nats; None where it is not comparable.
        score: the benchmark's score of the sample.
        unscored: why the image was not measured.
    """

    index: int
    prompt_id: str
    category: str
    number: int
    seed: int | None
    relation: str | None
    directional: bool
    planned: tuple[Corners, Corners] | None
    found: tuple[Corners, Corners] | None
    plan_right: bool | None
    plan_right_center: bool | None
    image_right: bool | None
    image_right_center: bool | None
    followed: bool | None
    iou: float | None
    ri: float | None
    applied: bool | None
    nll: float | None
    score: float | None
    unscored: str | None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> PlanRow:
        """Return the row of a JSON object. Raises KeyError where a field is missing; ignores other fields."""
        values = {field.name: row[field.name] for field in fields(cls)}
        return cls(**{**values, "planned": _pair(row["planned"]), "found": _pair(row["found"])})


def _pair(boxes: Any) -> tuple[Corners, Corners] | None:
    if boxes is None:
        return None
    subject, other = boxes
    return _corners(subject), _corners(other)


def _corners(box: Any) -> Corners:
    x1, y1, x2, y2 = map(float, box)
    return x1, y1, x2, y2
