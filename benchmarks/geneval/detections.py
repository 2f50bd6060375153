"""Objects in an image and their colors: detected by models, or read from a file.

The file holds one JSON line per image:

    {"prompt": "a photo of a red dog", "number": 3, "frame": [512, 512], "labels": ["dog", "bench"],
     "boxes": [[12.5, 80.0, 200.0, 300.5], [250.0, 90.0, 470.0, 310.0]], "scores": [0.91, 0.55],
     "colors": ["red", null]}

`number` counts the images of a prompt from 0. Boxes are in pixels of the image, `frame` is its width and
height. Labels are GenEval's class names or numbers. `colors` is optional, or null; an entry is null where
GenEval needs no color.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from PIL import ImageOps

from benchmarks.geneval.files import COLORS
from benchmarks.geneval.models.colors import Seen
from benchmarks.given import GivenRows, by, is_count, mirror, read_detections
from harness.plugin_values import one_each
from harness.types import Detections, Sample

if TYPE_CHECKING:
    from PIL.Image import Image

    from benchmarks.geneval.models.colors import ColorClassifier
    from benchmarks.geneval.models.mask2former import Mask2Former

OFFICIAL_CLIP = "openai/clip-vit-large-patch14"

Key = tuple[str, int]  # prompt, number


class View(NamedTuple):
    """The objects of an image, and by class and place the colors of those objects whose color the
    prompt names.
    """

    found: Detections
    colors: Mapping[tuple[str, int], str]


Asked = Callable[
    [Sample, Detections], Sequence[tuple[str, int]]
]  # which objects' colors are asked for: class and place


class Source(Protocol):
    """A source of views. Tables show `metric` and `labels` beside scores that rest on it."""

    @property
    def metric(self) -> str: ...
    @property
    def labels(self) -> tuple[str, ...]: ...

    def load(self, *, colors: bool) -> None:
        """Reads what is needed, for colors too.

        Raises:
            ValueError: it is not there; says what to do.
        """
        ...

    def look(self, samples: Sequence[Sample], asked: Asked, *, mirrored: bool) -> list[View | str]:
        """A view of each image, or of it mirrored left to right; a text is the reason why there is none."""
        ...


class Seeing:
    """Views from models: a detector and a color classifier.

    Args:
        detector: what finds objects.
        classifier: what tells their colors.
        names: of the detector's classes, in order.
        above: the score that an object must exceed to be looked at.
    """

    metric = "GenEval (HF detector)"

    def __init__(
        self, detector: Mask2Former, classifier: ColorClassifier, names: Sequence[str], *, above: float
    ) -> None:
        self._detector, self._classifier, self._names, self._above = detector, classifier, names, above
        other = () if classifier.name == OFFICIAL_CLIP else (f"colors={Path(classifier.name).name}",)
        self.labels = (f"detector={detector.name}", *other)

    def load(self, *, colors: bool) -> None:
        self._detector.load()
        if colors:
            self._classifier.load()

    def look(self, samples: Sequence[Sample], asked: Asked, *, mirrored: bool) -> list[View | str]:
        images = [_upright(sample, mirrored) for sample in samples]
        found = self._detector.detect(images, self._names, above=self._above)
        who = f"detector {type(self._detector).__name__}"
        found = one_each(found, len(images), who, "detections", "image")
        objects = [asked(sample, detections) for sample, detections in zip(samples, found, strict=True)]
        seen: list[Seen] = []
        for image, detections, named in zip(images, found, objects, strict=True):
            for name, place in named:
                seen.append(Seen(image, detections.masks[place], detections.boxes[place], name))
        who = f"color classifier {type(self._classifier).__name__}"
        classified = self._classifier.classify_all(seen) if seen else ()
        colors = iter(one_each(classified, len(seen), who, "colors", "object"))
        views: list[View | str] = []
        for detections, named in zip(found, objects, strict=True):
            views.append(View(detections, {key: next(colors) for key in named}))
        return views


@dataclass(frozen=True, kw_only=True)
class ColoredDetections(Detections):
    """Detections with `colors`, None for each object whose color is not needed."""

    colors: tuple[str | None, ...]


class GivenDetections:
    """Views from a file of detections made elsewhere.

    Mirroring mirrors the boxes: that tests the rules which read them, and not the detector.

    Args:
        file: the rows.
        names: of the classes, in the order of their numbers.
    """

    metric = "GenEval"

    def __init__(self, file: Path, names: Sequence[str]) -> None:
        self._file, self._names = file, names
        self._rows = GivenRows(file, self._row, _called)
        self.labels = (f"detector={file.name}",)

    def load(self, *, colors: bool) -> None:
        self._rows.load()

    def look(self, samples: Sequence[Sample], asked: Asked, *, mirrored: bool) -> list[View | str]:
        found = self._rows.find([(sample.prompt.text, sample.prompt.number) for sample in samples])
        return [self._view(sample, one, asked, mirrored) for sample, one in zip(samples, found, strict=True)]

    def _view(
        self, sample: Sample, found: ColoredDetections | None, asked: Asked, mirrored: bool
    ) -> View | str:
        called = _called((sample.prompt.text, sample.prompt.number))
        if found is None:
            return f"{self._file} has no detections of {called}"
        if found.frame != (size := _upright(sample, False).size):
            return (
                f"{self._file}: {called} has {by(size)} pixels, and its detections are in a frame of "
                f"{by(found.frame)}: "
                "give the detections of these images"
            )
        colors = {key: found.colors[key[1]] for key in asked(sample, found)}
        if lacking := [name for (name, _), color in colors.items() if color is None]:
            return f"{self._file} has no color of a {lacking[0]} in {called}"
        return View(
            mirror(found) if mirrored else found,
            {key: color for key, color in colors.items() if color is not None},
        )

    def _row(self, row: Mapping[str, Any]) -> tuple[Key, ColoredDetections]:
        prompt, number = row["prompt"], row["number"]
        if not isinstance(prompt, str) or not is_count(number):
            raise ValueError(f"prompt {prompt!r} must be a text, number {number!r} a whole number from 0")
        if odd := [score for score in row["scores"] if not 0 < score <= 1]:
            raise ValueError(
                f"the score {odd[0]} is not above 0 and at most 1; a mask without a pixel has the "
                "score 0: leave it out"
            )
        found = read_detections(row, self._label)
        colors = row.get("colors")
        if colors is None:
            colors = [None] * len(found.labels)
        if (
            not isinstance(colors, list)
            or len(colors) != len(found.labels)
            or not set(colors) <= {None, *COLORS}
        ):
            raise ValueError(
                f"colors {colors!r} must be one of {', '.join(COLORS)} or null for each of "
                f"{len(found.labels)} labels"
            )
        return (prompt, number), ColoredDetections(**vars(found), colors=tuple(colors))

    def _label(self, label: Any) -> str:
        if label in self._names:
            return str(label)
        if is_count(label) and label < len(self._names):
            return self._names[label]
        raise ValueError(
            f"the label {label!r} is none of GenEval's {len(self._names)} classes, and no class number from 0"
        )


def _called(key: Key) -> str:
    return f"image {key[1]} of {key[0]!r}"


def _upright(sample: Sample, mirrored: bool) -> Image:
    """The image as its EXIF says that it stands, mirrored left to right if asked."""
    image = ImageOps.exif_transpose(sample.image)
    return ImageOps.mirror(image) if mirrored else image
