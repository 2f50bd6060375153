"""The 722 class names of UniDet's unified label space, spelled as T2I-CompBench compares them with
words of prompts.

They come from UniDet's label file (Apache-2.0, `datasets/label_spaces/learned_mAP+M.csv` of
github.com/xingyizhou/UniDet), which has one class per row in the order of the class ids, with its name in
each of the unified data sets. T2I-CompBench joins these names and has edited some by hand. This module
rebuilds that list by rule and `EDITS`, and checks its SHA-256.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from harness.files import read_user_text

COUNT = 722
# SHA-256 of the labels, joined by line feeds
DIGEST = "8840546c24c3df8df852bb4d6b36032e77f3882311798fe786f33ea6db4caf40"
COLUMNS = ("oid_name", "objects365_name", "coco_name", "mapillary_name")
EDITS = {  # class id -> label, where it is not what the rule gives
    11: "picture, frame",
    13: "street light",
    36: "whiteboard, blackboard",
    138: "bench",
    203: "trash bin, can",
    207: "towel, napkin",
    209: "barrel, bucket",
    224: "pot, pan",
    234: "shampoo, shower gel",
    249: "tissue ",
    282: "router, modem",
    320: "tape measure, ruler",
    701: "crosswalk",
    718: "traffic sign back",
}
GET = (
    "take unidet_labels.csv as `python -m harness.fetch t2i_compbench` leaves it, or the list `labels` "
    "of T2I-CompBench as JSON"
)


class LabelFile:
    """The label of every class id, as a detector asks for them when it is loaded.

    Args:
        file: see `read_labels`.
    """

    def __init__(self, *, file: str) -> None:
        self._file = Path(file)

    def missing(self) -> list[str]:
        """The file, where it is not there."""
        return [] if self._file.is_file() else [f"there is no label file {self._file}: {GET}"]

    def __call__(self) -> tuple[str, ...]:
        """Reads the file.

        Raises:
            ValueError: as `read_labels`.
        """
        return read_labels(self._file)


def read_labels(file: Path) -> tuple[str, ...]:
    """The label of every class id, from UniDet's CSV or from JSON: a list, or `{"labels": [...]}`.

    Raises:
        ValueError: the file is missing or no such file, or its labels are too few, too many or in another
            order.
    """
    if not file.is_file():
        raise ValueError(f"there is no label file {file}: {GET}")
    text = read_user_text(file, remedy=f"Or {GET}")
    labels = _of_json(file, text) if text.lstrip()[:1] in ("[", "{") else _of_csv(file, text)
    if len(labels) != COUNT:
        raise ValueError(
            f"{file} holds {len(labels)} labels, and the classes of T2I-CompBench's detectors are "
            f"{COUNT}: {GET}"
        )
    digest = hashlib.sha256("\n".join(labels).encode()).hexdigest()
    if digest != DIGEST:
        raise ValueError(
            f"the labels of {file} are not T2I-CompBench's in their order: their SHA-256 is {digest}, "
            f"and not {DIGEST}; {GET}"
        )
    return labels


def _of_csv(file: Path, text: str) -> tuple[str, ...]:
    rows = csv.DictReader(text.splitlines())
    if missing := [name for name in COLUMNS if name not in (rows.fieldnames or ())]:
        raise ValueError(
            f"{file} has no column {', '.join(missing)}, so it is no label file of UniDet: {GET}"
        )
    return tuple(EDITS.get(place, _label(row)) for place, row in enumerate(rows))


def _label(row: Mapping[str, str | None]) -> str:
    """The distinct names of Open Images and Objects365; without these that of COCO, else the last part of
    Mapillary's.
    """
    open_images, objects365, coco, mapillary = ((row[name] or "").lower() for name in COLUMNS)
    names = dict.fromkeys(name for name in (open_images, objects365) if name)
    return ", ".join(names) or coco or mapillary.rpartition("--")[2].replace("-", " ")


def _of_json(file: Path, text: str) -> tuple[str, ...]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{file} is not JSON ({error}): {GET}") from None
    labels = found.get("labels") if isinstance(found, dict) else found
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise ValueError(f"{file} holds no list of labels, plain or as `labels`: {GET}")
    return tuple(labels)
