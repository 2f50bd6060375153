"""The rules of GenEval for one image: which detections count, how two boxes relate, whether the image
is right.

Pure functions over plain records that follow evaluate_images.py (arXiv 2310.11513): no model, no image,
no file. A detection is named by its index. G1 to G10 are the quirks in docs/geneval.md. Official mode
reproduces them, corrected mode fixes them; these are two metrics and never share a column.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain, combinations
from typing import Any

import numpy as np

from benchmarks.geneval.files import COLORS, RELATIONS, Line
from benchmarks.mode import Mode
from harness.types import Detections

MOST = 16  # objects of a class
MARGIN = 0.1  # of the sizes of both boxes: centres that are no further apart do not differ
LEAST = 1e-3  # pixels that must be left of an offset
CONE = 0.5  # the least part of an offset that its direction on an axis must be

Box4 = tuple[float, float, float, float]  # x1, y1, x2, y2 in pixels of the image
Kept = Mapping[str, Sequence[int]]  # class -> places in the detections, by falling score
Entry = Mapping[str, Any]  # of a line's include or exclude
ColorOf = Callable[[str, int], str]  # class, place -> one of COLORS
Group = Sequence[int]  # places of the objects that an entry is judged by
Judged = tuple[list[str], list[Group]]  # reasons against the image, and what was looked at for each entry


@dataclass(frozen=True, kw_only=True)
class Limits:
    """A detection counts if its score is above `score`, for counting above `counting_score`, and if
    its IoU with every more confident detection of its class is below `overlap` (None: no limit).
    """

    score: float
    counting_score: float
    overlap: float | None


LIMITS: Mapping[Mode, Limits] = {
    "official": Limits(score=0.3, counting_score=0.9, overlap=None),  # G1, G2
    "corrected": Limits(score=0.3, counting_score=0.3, overlap=0.7),
}


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Whether the image is right; `reason` has one line for every failure.

    `used` are the places of the detections that were judged, each once.
    """

    correct: bool
    reason: str
    used: tuple[int, ...]


def keep(found: Detections, tag: str, *, mode: Mode = "official") -> dict[str, tuple[int, ...]]:
    """Class -> the places of its detections that count for a prompt of this tag, by falling score;
    classes without any are left out.

    Scores are compared in float32, as the detector gives them. Of equal scores the later comes first in
    official mode, which is what numpy's sort makes of short lists (G8), and the earlier one in corrected
    mode.
    """
    limits = LIMITS[mode]
    least = np.float32(limits.counting_score if tag == "counting" else limits.score)
    scores = np.asarray(found.scores, dtype=np.float32)
    order = (
        np.argsort(scores, kind="stable")[::-1] if mode == "official" else np.argsort(-scores, kind="stable")
    )
    by_class: dict[str, list[int]] = {}
    for place in order[scores[order] > least].tolist():
        by_class.setdefault(found.labels[place], []).append(place)
    return {label: _apart(places[:MOST], found.boxes, limits.overlap) for label, places in by_class.items()}


def iou(a: Box4, b: Box4) -> float:
    """Intersection over union of boxes whose last row and column belong to them: sides are one pixel
    longer than x2 - x1, y2 - y1.
    """
    shared = _area((max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])))
    union = _area(a) + _area(b) - shared
    return shared / union if union else 0.0


def relations(a: Box4, b: Box4, *, mode: Mode = "official") -> frozenset[str]:
    """Which of `RELATIONS` box `a` has to box `b`; y grows downwards.

    The offset of the centres is shortened on each axis by a tenth of both sizes. A relation holds if what
    is left, divided by the length of the whole offset (G6), exceeds one half; on a diagonal two do (G5).
    Corrected: divided by the length of what is left, and only on the axis where that is longer. All in
    float32.
    """
    corners_22_xy = np.array([a, b], dtype=np.float32).reshape(2, 2, 2)  # box, corner, axis
    centres, sizes = corners_22_xy.mean(axis=1), np.abs(np.diff(corners_22_xy, axis=1))[:, 0]
    offset = centres[0] - centres[1]
    left = np.maximum(np.abs(offset) - MARGIN * (sizes[0] + sizes[1]), 0) * np.sign(offset)
    if (np.abs(left) < LEAST).all():
        return frozenset()
    if mode == "corrected":
        left, offset = np.where(np.abs(left) > np.abs(left[::-1]), left, 0), left
    dx, dy = left / np.linalg.norm(offset)
    return frozenset(
        name
        for name, holds in zip(RELATIONS, (dx < -CONE, dx > CONE, dy < -CONE, dy > CONE), strict=True)
        if holds
    )


def colored(metadata: Line, kept: Kept, *, mode: Mode = "official") -> list[tuple[str, int]]:
    """Class and place of every object whose color `evaluate` asks for, so that a model can see them
    together.
    """
    groups = [(entry, _group(entry, kept, mode)) for entry in metadata["include"] if "color" in entry]
    asked: dict[tuple[str, int], None] = {}
    for entry, group in groups:
        if len(group) >= entry["count"]:
            asked.update(dict.fromkeys((entry["class"], place) for place in group))
    return list(asked)


def evaluate(
    metadata: Line, found: Detections, kept: Kept, color_of: ColorOf, *, mode: Mode = "official"
) -> Verdict:
    """Does the image show what its prompt asks for, and no more than it may?

    Official: each entry of `include` is judged by the surest `count` objects of its class alone (G3, G4).
    Corrected: any `count` objects that are as they should be will do. Both: a color is looked at only
    where there are enough objects, a position only where all that it concerns is there (G9); only
    `exclude`, which prompts of counting have, minds further objects (G10).

    Args:
        metadata: the line of the prompt (`files.read_metadata`).
        found: all detections of the image.
        kept: those that count (`keep`, in the same mode).
        color_of: gives one of `COLORS`; asked of the objects of `colored` and no others.
        mode: official or corrected.
    """
    judge = _by_the_surest if mode == "official" else _by_any
    reasons, groups = judge(metadata["include"], found.boxes, kept, color_of)
    for entry in metadata.get("exclude", ()):
        there = kept.get(entry["class"], ())
        if len(there) >= entry["count"]:
            reasons.append(f"expected {entry['class']}<{entry['count']}, found {len(there)}")
            groups.append(there)
    return Verdict(
        correct=not reasons,
        reason="\n".join(reasons),
        used=tuple(dict.fromkeys(chain.from_iterable(groups))),
    )


def _by_the_surest(include: Sequence[Entry], boxes: Sequence[Box4], kept: Kept, color_of: ColorOf) -> Judged:
    reasons: list[str] = []
    groups = [_group(entry, kept, "official") for entry in include]
    fine: list[Group | None] = []
    for entry, group in zip(include, groups, strict=True):
        fitting = _fitting(entry, group, color_of)
        failure = fitting if isinstance(fitting, str) else _misplaced(entry, group, fine, boxes)
        fine.append(None if failure else group)
        reasons += [failure] if failure else []
    return reasons, groups


def _misplaced(entry: Entry, group: Group, fine: Sequence[Group | None], boxes: Sequence[Box4]) -> str | None:
    """Why the position asked for does not hold: every object must have it to every one of the entry that
    it refers to.
    """
    if "position" not in entry:
        return None
    relation, other = entry["position"]
    targets = fine[other]
    if targets is None:
        return f"no target for {entry['class']} to be {relation}"
    for place in group:
        for target in targets:
            if relation not in (there := relations(boxes[place], boxes[target])):
                said = " and ".join(
                    one for one in RELATIONS if one in there
                )  # G7: official texts have no fixed order
                return f"expected {entry['class']} {relation} target, found {said} target"
    return None


def _by_any(include: Sequence[Entry], boxes: Sequence[Box4], kept: Kept, color_of: ColorOf) -> Judged:
    found = [_fitting(entry, _group(entry, kept, "corrected"), color_of) for entry in include]
    reasons = [one for one in found if isinstance(one, str)]
    suitable = [one for one in found if not isinstance(one, str)]
    if not reasons and (chosen := _arranged(include, suitable, boxes)):
        return [], chosen
    positions = " and ".join(
        f"{entry['class']} {entry['position'][0]} target" for entry in include if "position" in entry
    )
    return reasons or [f"expected {positions}, found none"], [
        _group(entry, kept, "official") for entry in include
    ]


def _arranged(
    include: Sequence[Entry], suitable: Sequence[Group], boxes: Sequence[Box4]
) -> list[Group] | None:
    """Of the suitable objects of every entry, `count` so that all positions hold; None where there are
    none.
    """

    @cache
    def stands(place: int, relation: str, target: int) -> bool:
        return relation in relations(boxes[place], boxes[target], mode="corrected")

    def placed(entry: Entry, places: Group, chosen: list[Group]) -> Group:
        if "position" not in entry:
            return places
        relation, other = entry["position"]

        def fits(place: int) -> bool:
            return all(stands(place, relation, target) for target in chosen[other])

        return list(filter(fits, places))

    def extend(chosen: list[Group]) -> list[Group] | None:
        if len(chosen) == len(include):
            return chosen
        entry = include[len(chosen)]
        places = placed(entry, suitable[len(chosen)], chosen)
        ways = (extend([*chosen, group]) for group in combinations(places, entry["count"]))
        return next((way for way in ways if way), None)

    return extend([])


def _group(entry: Entry, kept: Kept, mode: Mode) -> Group:
    """The objects that an entry is judged by."""
    there = kept.get(entry["class"], ())
    return there[: entry["count"]] if mode == "official" else there


def _fitting(entry: Entry, group: Group, color_of: ColorOf) -> Group | str:
    """Those of the group that have the color asked for, or why they are too few."""
    if len(group) < entry["count"]:
        return f"expected {entry['class']}>={entry['count']}, found {len(group)}"
    if "color" not in entry:
        return group
    colors = [color_of(entry["class"], place) for place in group]
    fitting = [place for place, color in zip(group, colors, strict=True) if color == entry["color"]]
    if len(fitting) >= entry["count"]:
        return fitting
    there = ", ".join(f"{colors.count(color)} {color}" for color in COLORS if color in colors)
    return (
        f"expected {entry['color']} {entry['class']}>={entry['count']}, found {len(fitting)} "
        f"{entry['color']}; and {there}"
    )


def _apart(places: Sequence[int], boxes: Sequence[Box4], overlap: float | None) -> tuple[int, ...]:
    """The places without those whose boxes overlap a surer one that stays."""
    if overlap is None:
        return tuple(places)
    stay: list[int] = []
    for place in places:
        if all(iou(boxes[place], boxes[surer]) < overlap for surer in stay):
            stay.append(place)
    return tuple(stay)


def _area(box: Box4) -> float:
    return max(box[2] - box[0] + 1, 0) * max(box[3] - box[1] + 1, 0)
