"""Detections made elsewhere, in files of JSON lines: checked, and looked up by key, without a model."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, Generic, TypeVar

import numpy as np

from harness.files import open_user_text, parse_json
from harness.types import Detections

SLACK = 1.0  # pixels that rounding may put a box beyond its frame

Key = TypeVar("Key", bound=Hashable)
Content = TypeVar("Content")
Found = TypeVar("Found", bound=Detections)


class GivenRows(Generic[Key, Content]):
    """Rows by their keys. The whole file is read and checked when it is first needed; memory holds
    only the offsets of the rows.

    Args:
        file: one JSON object a line; empty lines do not count.
        read: key and content of an object; what it raises tells what is wrong with the row.
        called: the image of a key, for messages.
    """

    def __init__(
        self,
        file: Path,
        read: Callable[[Mapping[str, Any]], tuple[Key, Content]],
        called: Callable[[Key], str],
    ) -> None:
        self._file, self._read_row, self._called = file, read, called

    def load(self) -> None:
        """Reads and checks the file.

        Raises:
            ValueError: a row is none, or stands there twice; names the line.
        """
        _ = self._places

    def find(self, keys: Sequence[Key]) -> list[Content | None]:
        """What the file says of each key, None where it has no such row.

        Raises:
            ValueError: as `load`.
        """
        with self._file.open("rb") as stream:
            return [self._at(stream, self._places.get(key)) for key in keys]

    def _at(self, stream: BinaryIO, place: int | None) -> Content | None:
        if place is None:
            return None
        stream.seek(place)
        return self._read(stream.readline())[1]

    @cached_property
    def _places(self) -> dict[Key, int]:
        """Where in the file each row begins, in bytes."""
        places: dict[Key, int] = {}
        with open_user_text(self._file) as stream:
            start = stream.tell()
            for number, line in enumerate(stream, start=1):
                if line.strip():
                    key = self._checked(number, line)
                    if key in places:
                        raise ValueError(
                            f"line {number} of {self._file} is the second row of {self._called(key)}: "
                            "keep one"
                        )
                    places[key] = start
                start += len(line)
        return places

    def _checked(self, number: int, line: bytes) -> Key:
        try:
            return self._read(line)[0]
        except (ValueError, TypeError, KeyError, IndexError, OverflowError) as error:
            what = f"has no {error}" if isinstance(error, KeyError) else str(error)
            raise ValueError(f"line {number} of {self._file} is no row of detections: {what}") from None

    def _read(self, line: bytes) -> tuple[Key, Content]:
        row = parse_json(line.decode("utf-8"))
        if not isinstance(row, dict):
            raise ValueError("it is no JSON object")
        return self._read_row(row)


def is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def read_detections(row: Mapping[str, Any], label: Callable[[Any], str]) -> Detections:
    """`frame`, `labels`, `boxes` and `scores` of a row; `label` reads a label as it stands there.

    Raises:
        ValueError: they do not go together, or a box has no extent or is not within the frame (or
            whatever reading them raises).
    """
    labels, boxes, scores = (_list(row[name], name) for name in ("labels", "boxes", "scores"))
    found = Detections(
        frame=_frame(row["frame"]),
        labels=tuple(map(label, labels)),
        boxes=tuple(map(_box, boxes)),
        scores=tuple(map(_number, scores)),
    )
    _check_boxes(found)
    return found


def _list(value: Any, name: str) -> list[Any]:
    items = list(value)
    if not isinstance(value, list):
        raise ValueError(f"its {name} must be a list, this is {repr(value)[:40]}")
    return items


def _number(value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ValueError(f"{repr(value)[:40]} ({type(value).__name__}) is no number")
    return float(value)


def _box(box: Any) -> tuple[float, float, float, float]:
    if not isinstance(box, list) or len(box) != 4:
        raise ValueError("each box must be x1, y1, x2, y2")
    x1, y1, x2, y2 = map(_number, box)
    return x1, y1, x2, y2


def _frame(frame: Any) -> tuple[int, int]:
    if not isinstance(frame, list) or len(frame) != 2 or not all(is_count(side) and side for side in frame):
        raise ValueError(f"frame {frame!r} must be [width, height] in pixels")
    return frame[0], frame[1]


def _check_boxes(found: Detections) -> None:
    width, height = found.frame
    x1, y1, x2, y2 = np.asarray(found.boxes, dtype=np.float64).reshape(-1, 4).T
    fine = (
        (x1 >= -SLACK)
        & (x1 < x2)
        & (x2 <= width + SLACK)
        & (y1 >= -SLACK)
        & (y1 < y2)
        & (y2 <= height + SLACK)
    )
    if not fine.all():  # what is not finite is not fine either
        box = list(found.boxes[int(np.argmin(fine))])
        raise ValueError(
            f"the box {box} is not x1, y1, x2, y2 with x1 < x2 and y1 < y2 within its frame of "
            f"{by(found.frame)}"
        )


def mirror(found: Found) -> Found:
    """The same in the image mirrored left to right."""
    width = found.frame[0]
    return replace(found, boxes=tuple((width - x2, y1, width - x1, y2) for x1, y1, x2, y2 in found.boxes))


def by(size: tuple[int, int]) -> str:
    """Width and height, for people."""
    return f"{size[0]} x {size[1]}"
