"""Detections and depth maps made elsewhere, read from files in place of a model.

The file of detections holds one JSON line per image, as UniDet writes them with T2I-CompBench's settings
(in the frame of `rules.frame`, scores above 0.1, in falling order):

    {"category": "2D-spatial", "prompt": "a dog on the left of a cat", "number": 3, "frame": [479, 479],
     "labels": ["dog", "cat"], "boxes": [[12.5, 80.0, 200.0, 300.5], [250.0, 90.0, 470.0, 310.0]],
     "scores": [0.91, 0.55]}

`number` counts the images of a prompt from 0. Labels are texts, or class ids that a label file (`labels`)
translates.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from benchmarks.given import GivenRows, by, is_count, mirror, read_detections
from benchmarks.t2i_compbench.labels import read_labels
from benchmarks.t2i_compbench.rules.frame import frame_size
from harness.protocols import DepthEstimator, ObjectDetector
from harness.types import Detections, Sample

LEAST_SCORE = 0.1  # exclusive; of T2I-CompBench's copy of UniDet
DEPTH_NAME = re.compile(r"(?P<prompt>.*)_(?P<number>[0-9]+)\.png", re.DOTALL | re.IGNORECASE)

Key = tuple[str, str, int]  # category, prompt, number


class GivenDetections(ObjectDetector):
    """An `ObjectDetector` that looks detections up by category, prompt and number.

    Args:
        file: the rows.
        name: what found them, for tables: "UniDet RS200".
        labels: a label file (`labels.read_labels`), which makes class ids into texts; None where the rows
            hold texts.

    Raises:
        ValueError: a file is missing.
    """

    def __init__(self, *, file: str, name: str, labels: str | None) -> None:
        self.name = name
        self.external = tuple(path for path in (file, labels) if path is not None)
        for path in self.external:
            if not Path(path).is_file():
                raise ValueError(
                    f"detections of {name}: there is no file {path}. Give one with a row for each image"
                )
        self._file, self._labels_file = Path(file), labels
        self._rows = GivenRows(self._file, self._row, _called)

    def load(self) -> None:
        """Reads and checks the file.

        Raises:
            ValueError: a row is no row of these programs, or stands there twice; names the line.
        """
        self._rows.load()

    def detect(self, samples: Sequence[Sample], *, mirrored: bool = False) -> list[Detections | str]:
        """The detections of every sample; where the file has none, or those of an image of another size,
        a text that says so.

        `mirrored` mirrors the boxes in their frame: that tests the rule which reads them, and not the
        detector.

        Raises:
            ValueError: as `load`.
        """
        keys = [(sample.prompt.category, sample.prompt.text, sample.prompt.number) for sample in samples]
        found = self._rows.find(keys)
        return [
            self._of(sample, key, one, mirrored)
            for sample, key, one in zip(samples, keys, found, strict=True)
        ]

    def _of(self, sample: Sample, key: Key, found: Detections | None, mirrored: bool) -> Detections | str:
        if found is None:
            return f"{self._file} has no detections of {_called(key)}"
        try:
            expected = frame_size(*sample.image.size)
        except ValueError as error:
            return str(error)
        if found.frame != expected:
            return (
                f"{self._file}: image {key[2]} of {key[1]!r} has {by(sample.image.size)} pixels, which "
                "the programs make into "
                f"{by(expected)}, and its detections are in a frame of {by(found.frame)}: give the "
                "detections of these images"
            )
        return mirror(found) if mirrored else found

    def _row(self, row: Mapping[str, Any]) -> tuple[Key, Detections]:
        key = _key(row)
        found = read_detections(row, self._label)
        _check_scores(found.scores)
        return key, found

    def _label(self, label: Any) -> str:
        if isinstance(label, str):
            return label
        if not isinstance(label, int) or isinstance(label, bool):
            raise ValueError(f"the label {label!r} is neither a text nor a class id")
        if self._labels_file is None:
            raise ValueError(f"the label {label} is a class id: give the label file with labels=FILE")
        if not 0 <= label < len(self._names):
            raise ValueError(f"there is no class id {label}, they are 0 to {len(self._names) - 1}")
        return self._names[label]

    @cached_property
    def _names(self) -> tuple[str, ...]:
        assert self._labels_file is not None
        return read_labels(Path(self._labels_file))


class GivenDepth(DepthEstimator):
    """A `DepthEstimator` that reads depth maps from a folder: T2I-CompBench's own `labels/depth/`, or
    one of that form.

    A file is named as its image, `PROMPT_000012.png`: the k-th of a prompt, by number, is that of image k.

    Args:
        folder: the grey images, mode L, each of its image's size.
        name: what made them, for tables.

    Raises:
        ValueError: there is no such folder.
    """

    def __init__(self, *, folder: str, name: str) -> None:
        self.name, self.external = name, (folder,)
        self._folder = Path(folder)
        if not self._folder.is_dir():
            raise ValueError(
                f"depth of {name}: there is no folder {folder}. Give one with PROMPT_000000.png and so on"
            )

    def load(self) -> None:
        """Looks which images there are.

        Raises:
            ValueError: two claim to be the same, or there is none.
        """
        _ = self._maps

    def depth(self, samples: Sequence[Sample], *, mirrored: bool = False) -> list[Image.Image | str]:
        """The image of every sample; where there is none, or none that fits the image, a text that says so.

        `mirrored` mirrors it: that tests the rule which reads it, and not the depth model.

        Raises:
            ValueError: as `load`.
        """
        return [self._of(sample, mirrored) for sample in samples]

    def _of(self, sample: Sample, mirrored: bool) -> Image.Image | str:
        own = self._maps.get(sample.prompt.text, [])
        if len(own) < self._each:  # which image lacks its own cannot be known
            return (
                f"{self._folder} has {len(own)} depth images of {sample.prompt.text!r}, and "
                f"{self._each} of others"
            )
        if sample.prompt.number >= len(own):
            return (
                f"{self._folder} has {len(own)} depth images of {sample.prompt.text!r}, none of "
                f"image {sample.prompt.number}"
            )
        file = own[sample.prompt.number]
        try:
            with Image.open(file) as picture:
                picture.load()
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            return f"{file} cannot be read as an image ({error})"
        if picture.mode != "L" or picture.size != sample.image.size:
            return (
                f"{file} has mode {picture.mode} and {by(picture.size)} pixels, its image has "
                f"{by(sample.image.size)}: "
                "give 8-bit grey images (mode L) of the size of the images"
            )
        return ImageOps.mirror(picture) if mirrored else picture

    @cached_property
    def _each(self) -> int:
        """How many images of a prompt there are."""
        return max(map(len, self._maps.values()))

    @cached_property
    def _maps(self) -> dict[str, list[Path]]:
        """Prompt -> its images in the order of their numbers."""
        numbered: dict[str, dict[int, Path]] = {}
        for file in sorted(self._folder.iterdir()):
            if not (name := DEPTH_NAME.fullmatch(file.name)):
                continue
            own, number = numbered.setdefault(name["prompt"], {}), int(name["number"])
            if number in own:
                raise ValueError(
                    f"{own[number]} and {file.name} are both image {number} of {name['prompt']!r}: keep one"
                )
            own[number] = file
        if not numbered:
            raise ValueError(f"{self._folder} holds no PROMPT_000000.png: give the folder of depth images")
        in_order = {}
        for prompt, files in numbered.items():
            in_order[prompt] = [files[number] for number in sorted(files)]
        return in_order


def _called(key: Key) -> str:
    return f"image {key[2]} of {key[1]!r} ({key[0]})"


def _key(row: Mapping[str, Any]) -> Key:
    category, prompt, number = row["category"], row["prompt"], row["number"]
    if not isinstance(category, str) or not isinstance(prompt, str) or not is_count(number):
        raise ValueError(
            f"category {category!r} and prompt {prompt!r} must be texts, number {number!r} a whole "
            "number from 0"
        )
    return category, prompt, number


def _check_scores(scores: Sequence[float]) -> None:
    for earlier, score in zip((1.0, *scores), scores, strict=False):
        if not LEAST_SCORE < score <= 1:
            raise ValueError(
                f"the score {score} is not above {LEAST_SCORE} and at most 1: T2I-CompBench's "
                "detectors give no other"
            )
        if score > earlier:
            raise ValueError(
                f"the score {score} comes after {earlier}: detections stand by falling score, and "
                "rules take the first"
            )
