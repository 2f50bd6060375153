"""The role of `benchmarks=`: prompts, scores, and for some benchmarks training records."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from pathlib import Path
    from random import Random

    from PIL.Image import Image

    from harness.relations import Found, Relation, Roles
    from harness.types import Box, Chain, Metric, Prompt, Record, Region, Sample, Score


class Scorer(ABC):
    """The base class of what scores samples: a benchmark, or a measure that replaces its scores."""

    external: tuple[str, ...] = ()
    """Files and folders outside the project that it reads; they count by content (see `Stage`)."""

    metrics: Mapping[str, Metric] = {}
    """Category -> the metric of its scores; without one, tables show neither name nor labels."""

    mirrored: Callable[[Sequence[Sample]], list[Score | None]] | None = None
    """A method: the scores of the samples with their images mirrored left to right. An entry is None where
    the prompt has no left or right, so that the mirrored image is no worse an answer. Without the method,
    `evaluation.check=mirror` is refused."""

    @abstractmethod
    def score(self, samples: Sequence[Sample]) -> list[Score]:
        """One score per sample, by the rule of its prompt's category.

        Images have the mode of their files, mostly RGB.
        """

    def check(self, prompts: Sequence[Prompt], images_per_prompt: int) -> None:
        """Raises ValueError if its files do not belong to these images. Called before anything is drawn."""
        return

    def load(self) -> None:
        """Loads what `score` needs, so that a missing model or file is reported before the work."""
        return

    def write_results(self, folder: Path, rows: Sequence[Mapping[str, Any]]) -> None:
        """Writes the rows of `scores.jsonl` in the formats of the official programs, if there are any."""
        return


class Benchmark(Scorer):
    """The base class of benchmarks. Only `categories`, `prompts` and `score` are required.

    The entry `scoring` of a benchmark's settings decides scores only: the stage `scores` constructs the
    benchmark with it, every other stage without it.
    """

    categories: tuple[str, ...]
    """The categories of the study, in the order of its tables."""

    all_categories: tuple[str, ...] = ()
    """Categories whose `texts` are known, including those that the settings leave out; default: none."""

    images_per_prompt: int = 1
    """Images per prompt in the benchmark's protocol, used where `evaluation.images_per_prompt` is null."""

    first_seed: int | None = None
    """Image k of every prompt is drawn with the seed `first_seed + k`; None: each image has its own seed."""

    fetches: ClassVar[Mapping[str, str]] = {}
    """What `harness.fetch` can fetch: name -> dotted path of `f(to: Path) -> None`, which fills that file or
    folder, or raises ValueError with what to do."""

    races: ClassVar[str | None] = None
    """Dotted path of `f() -> Iterable[Race]`, the races of `harness.bench score`; None: no races."""

    gpu: ClassVar[str | None] = None
    """Dotted path of `f(device: str) -> Iterable[GpuPhase]`, the scorers' part of `harness.bench gpu`; None:
    it has none."""

    read_results: Callable[[Path], list[tuple[Prompt, Score]]] | None = None
    """A method: the scores in a folder of files that the official programs wrote, each with its prompt and
    `Prompt.number`. Without the method, `harness.score results=` is refused."""

    relation: Callable[[Prompt], Relation | None] | None = None
    """A method: the relation of two objects that a prompt says, or None. Without the method, interventions
    that need a relation are refused. `harness.relations.relation_of` reads "A on the left of B"."""

    colors: Callable[[Prompt], tuple[tuple[str, str], ...]] | None = None
    """A method: the (color, object) pairs of a prompt that asks for two colored objects; empty for others."""

    roles: Callable[[Prompt, Chain], Roles | None] | None = None
    """A method: the places, among the objects of a chain, of the subject and the object of the prompt's
    relation, both with a box; None where one is missing. Without the method, the names decide."""

    relation_holds: Callable[[str, Region, Region], bool] | None = None
    """A method: whether the relation of this word holds between the boxes of subject and object, by the
    benchmark's rule. Without the method, the centers of the boxes decide."""

    oracle_chain: Callable[[Prompt, str, tuple[Box, Box] | None, Random], str | None] | None = None
    """A method: a clean chain of a prompt in the style `terse` or `verbose`, with these boxes of subject and
    object, or with clean ones; None where it has none. Without the method, a general text is written."""

    place: Callable[[Box], Box] | None = None
    """A method: the nearest box that images of the benchmark can show. Without the method, any box is."""

    locate: Callable[[Sequence[Sample]], list[Found | str]] | None = None
    """A method: where the images show subject and object of their prompt's relation. Each prompt says one.
    A text is the reason why an image could not be looked at. Without the method, plans are not measured."""

    locator: Metric | None = None
    """What `locate` asks, for tables: its name ("OWLv2") and labels ("threshold=0.1")."""

    ground: Callable[[Sequence[Image], Sequence[str]], list[list[Box] | None]] | None = None
    """A method: the boxes of each (image, name) pair, as a `Grounder` gives them, for the names that chains
    plan. Without the method, only subject and object are compared with the plan."""

    @abstractmethod
    def prompts(self, split: str) -> list[Prompt]:
        """The prompts of a split: train (GRPO), dev (tuning) or val (reports)."""

    def records(self, seed: int, count: int) -> Iterable[Record]:
        """The first `count` GoT training records of an endless stream that `seed` fixes; default: none."""
        raise NotImplementedError("this benchmark has no training records: choose another data=")

    def texts(self, category: str) -> Collection[str]:
        """The texts of all prompts of one of `all_categories`, including those that the settings leave out.

        An image of another text does not belong to the category.
        """
        return ()
