"""The roles of experts: models, servers and oracles that rewards and benchmarks ask."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from PIL.Image import Image

    from harness.types import Answer, Box, Detection, Detections, Question, Sample


@runtime_checkable
class Labeled(Protocol):
    """What an expert may have besides its role: a name for the head of a report."""

    @property
    def label(self) -> str:
        """The expert in a few words, with its quality where that is measured."""
        ...


class Judge(Protocol):
    """Answers questions about texts and images."""

    def ask(self, questions: Sequence[Question]) -> list[Answer]:
        """One answer per question, in order."""
        ...


class ModelJudge(ABC):
    """The base class of judges that are models, which `grounder=mllm` can ask for boxes."""

    model: str
    """Hub id, folder or served name of the model."""

    limits: Mapping[str, int] | None = None
    """`min_pixels` and `max_pixels` of the images that the model sees; None: only its server knows them."""

    @abstractmethod
    def ask(self, questions: Sequence[Question]) -> list[Answer]:
        """One answer per question, in order."""


class Grounder(Protocol):
    """Finds a named object in an image."""

    def locate(self, images: Sequence[Image], names: Sequence[str]) -> list[list[Box] | None]:
        """The boxes of each (image, name) pair by falling confidence: [] if absent, None if unreadable."""
        ...


class Detector(Protocol):
    """Finds objects in images."""

    def detect(self, images: Sequence[Image]) -> list[list[Detection]]:
        """The objects of each image, by falling confidence."""
        ...


class Similarity(Protocol):
    """Tells how well an image fits a text, on a scale of its own (CLIP, HPS: the raw cosine)."""

    def similarity(self, images: Sequence[Image], texts: Sequence[str]) -> list[float | None]:
        """One value per (image, text) pair; None where the model has none."""
        ...


class Expert(ABC):
    """The base class of a benchmark's experts: models to fetch, or files with their results."""

    name: str
    """The model or file, for tables."""

    given: bool = True
    """False where only the user can give the weights and has not; the first line of `missing` says so."""

    external: tuple[str, ...] = ()
    """Files and folders that the answers depend on; they count by content (see `Stage`)."""

    def missing(self) -> list[str]:
        """What is missing now, each with what to do (see `Needing`); default: nothing."""
        return []

    def load(self) -> None:
        """Loads the model or reads the file, so that a missing one is reported before the work."""
        return


class ObjectDetector(Expert):
    """The base class of detectors of many classes (UniDet, or detections read from a file)."""

    @abstractmethod
    def detect(self, samples: Sequence[Sample], *, mirrored: bool = False) -> list[Detections | str]:
        """The objects in each sample's image, or in its mirror image; a text is the reason for none."""


class DepthEstimator(Expert):
    """The base class of models that tell near from far."""

    @abstractmethod
    def depth(self, samples: Sequence[Sample], *, mirrored: bool = False) -> list[Image | str]:
        """A gray image (mode L) of the size of each sample's image, 0 far to 255 near.

        A text is the reason for none.
        """


class Vqa(Expert):
    """The base class of models that answer yes-no questions about images."""

    @abstractmethod
    def yes(self, images: Sequence[Image], questions: Sequence[Sequence[str]]) -> list[list[float]]:
        """P(yes) / (P(yes) + P(no)) of every question of every image, unrounded; as many lists as images."""
