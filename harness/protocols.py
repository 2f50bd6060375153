"""What a plugin must offer. Everything the harness asks of a policy, trainer, benchmark, reward or expert is here.

A class named by `_target_` in a YAML file is constructed on the login node too, to check its settings
and to declare stages: keep constructors light and import torch inside methods.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from harness.types import (
    Answer,
    Box,
    Detection,
    Detections,
    Metric,
    Prompt,
    Question,
    Record,
    Sample,
    Score,
    Stage,
    Tokens,
)

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

Config = Mapping[str, Any]  # the resolved configuration of a cell, plain values


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How rollouts are drawn (the `rollout` settings).

    `guidance` <= 1 draws conditional rows only. Temperature 0 is greedy. `max_chain_tokens` 0 draws no
    chain: begin-of-image follows the prompt at once (plain Janus).

    `random` is `per_sample`: one generator per sample, so that results do not depend on the batch. Or it is
    `upstream`, GoT-R1's script: consecutive equal (prompt, seed) pairs are one call of it, that is one chain
    shared by as many images, all drawn from one stream that is seeded anew for every call.
    """

    guidance: float = 1.0
    text_temperature: float = 1.0
    image_temperature: float = 1.0
    max_chain_tokens: int = 600
    random: Literal["per_sample", "upstream"] = "per_sample"

    def __post_init__(self) -> None:
        for name in ("text_temperature", "image_temperature"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"rollout.{name}={getattr(self, name)}: give a number from 0 (greedy)")
        if self.max_chain_tokens < 0:
            raise ValueError(
                f"rollout.max_chain_tokens={self.max_chain_tokens}: give a whole number from 0 (no chain)"
            )
        if self.random not in ("per_sample", "upstream"):
            raise ValueError(f"rollout.random={self.random!r}: allowed are per_sample and upstream")


@dataclass(frozen=True, kw_only=True)
class Race:
    """Work that several systems can do, to be compared in one run (`harness.bench`).

    `amount` is the work in `unit` (samples, images). `systems` do it and return the seconds of each phase; the first is
    what the others are compared with. `counts` says how many of `count_unit` (tokens, answers) each phase makes.
    `floor_s` is the least time that the device allows, where that is known. `setting` is what differs between the races of
    one work, `work` what does not.
    """

    work: str
    setting: str
    amount: int
    unit: str
    counts: Mapping[str, int]
    count_unit: str
    systems: Mapping[str, Callable[[], Mapping[str, float]]]
    floor_s: Callable[[], float] | None = None


@dataclass(frozen=True, kw_only=True)
class ModelSizes:
    """What the memory that a model needs depends on, known before it is loaded (`harness.study.memory` reckons with it).

    `parameters` counts weights by part; `trained` are the parts that training changes, `drawing` those a
    rollout multiplies by, `cut` those whose layers `Policy.blocks` names. `linears` are the linear layers among the
    trained ones: full name -> (inputs, outputs). `weight_bytes` is of a weight, `product_bytes` of a number in matrix
    products (None: as the device likes it, 2 on GPUs and 4 elsewhere). `logits` is how many of them training makes at
    once, `decode_bytes` the peak of turning image tokens into one image, `decode_batch` how many images that is done for
    at a time.
    """

    parameters: Mapping[str, int]
    trained: tuple[str, ...]
    drawing: tuple[str, ...]
    cut: tuple[str, ...]
    linears: Mapping[str, tuple[int, int]]
    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    codes: int
    image_tokens: int
    weight_bytes: int
    product_bytes: int | None
    recompute: bool
    logits: int
    decode_bytes: int
    decode_batch: int


@dataclass(frozen=True)
class TokenLogprobs:
    """Log-probs of the ids of a batch: `values_BT`, and boolean masks of the same shape.

    Column t of row b is the t-th id of that row's chain followed by its image; `action_BT` is False at
    padding and at a forced begin-of-image; `image_BT` marks image ids.
    """

    values_BT: torch.Tensor
    action_BT: torch.Tensor
    image_BT: torch.Tensor


class Policy(Protocol):
    """A loaded model that plans and draws. Of one that cannot be trained nothing but `rollout` is asked."""

    module: torch.nn.Module

    @property
    def image_size(self) -> tuple[int, int]:
        """Width and height in pixels of the images that it draws, and that `encode` takes."""
        ...

    def rollout(self, prompts: Sequence[Prompt], seeds: Sequence[int], sampling: Sampling) -> list[Sample]:
        """One sample per (prompt, seed) pair, in order; runs as one batch. `Prompt.number` is which of its prompt's images is asked for."""
        ...

    def encode(self, records: Sequence[Record]) -> list[Tokens]:
        """Token ids of training records (images through the image tokenizer)."""
        ...

    def logprobs(
        self, tokens: Sequence[Tokens], sampling: Sampling, *, unconditional: Sequence[bool] = ()
    ) -> TokenLogprobs:
        """Teacher-forced log-probs under `sampling`, with gradient where enabled.

        `sampling.guidance` > 1 scores image ids under the guided distribution; pass 1 for the conditional
        one. Rows marked `unconditional` have prompt and chain erased (condition dropout) and score only
        their image ids.
        """
        ...

    def save(self, folder: Path) -> None:
        """Writes a checkpoint folder that the recipe's `load` reads."""
        ...

    def blocks(self) -> list[torch.nn.Module]:
        """The large layers, each of which `logprobs` uses only by calling it, so that FSDP may cut them; left out: none."""
        ...


class PolicyRecipe(Protocol):
    """The `policies=` component: how a starting checkpoint is made or found, and how one is loaded."""

    trainable: bool
    """False where `load(..., trainable=True)` is impossible (diffusion pipelines); left out: True."""

    encoding: Mapping[str, Any]
    """Settings under which `Policy.encode` gives the same ids with less memory, in place of the user's; left out: none."""

    def start(self, config: Config) -> Stage:
        """The stage whose folder holds (or points to) the checkpoint that training starts from."""
        ...

    def load(self, folder: Path, *, trainable: bool = False) -> Policy: ...

    def samples(self, config: Config) -> Stage:
        """The stage `samples` of pictures that exist already, whose folder holds a `samples.jsonl` and, where there is
        more to say of them, a `protocol.json`: `{"labels": {category: [text, ...]}, "notes": [text, ...]}`. A recipe that
        has this is asked for nothing else. Left out: samples are drawn.
        """
        ...

    def sizes(self, folder: Path | None) -> ModelSizes | None:
        """Sizes of the model, without torch; None where they cannot be known. Left out: they are not known.

        Args:
            folder: a checkpoint that would be loaded, where it is there already.
        """
        ...

    def races(self) -> Iterable[Race]:
        """What `harness.bench rollout` runs beside other systems. Left out: nothing."""
        ...


class Trainer(Protocol):
    """The `trainers=` component: declares the stages from a starting checkpoint to a trained one."""

    trains: bool
    """False where it never declares a stage; left out: True."""

    def stages(self, config: Config, start: Stage) -> Sequence[Stage]:
        """In order; the last one's folder is the checkpoint that is evaluated."""
        ...


class Needing(Protocol):
    """Any component that knows what it needs from outside: `harness.doctor` asks every one of a cell that offers this."""

    def missing(self) -> list[str]:
        """What is not there now (a server, a file, a model to be fetched), each with what to do; looks and changes nothing."""
        ...


class Entry(Protocol):
    """A record of training data that has not been read yet."""

    @property
    def place(self) -> str:
        """Where it stands, for people."""
        ...

    def load(self, size: tuple[int, int]) -> Record:
        """The record, with an image of that width and height; called by several threads.

        Raises:
            ValueError: it cannot be used; the message says why.
        """
        ...


class TrainingData(Protocol):
    """The `data=` component: what SFT imitates. Constructed when planning, where it refuses files that are not there."""

    endless: bool
    """True for a stream that a seed decides and that must be limited; False for files."""
    external: Sequence[str]
    """Files that count by content (see `Stage`)."""
    listing: Sequence[tuple[str, int]]
    """Name and size of files too large to count by content."""
    max_bad_share: float
    """Of the entries, those that may turn out to be unusable."""

    def count(self, limit: int | None) -> int:
        """How many entries there are, at most `limit` (None: all)."""
        ...

    def entries(self, seed: int | None, count: int) -> Iterable[Entry]:
        """The first `count` entries, always the same ones in the same order; the seed is None for files."""
        ...


class Component(Protocol):
    """A reward component: one score per sample. `name` is what a total calls it."""

    name: str

    def __call__(self, samples: Sequence[Sample]) -> list[Score]: ...


class Benchmark(Protocol):
    """The `benchmarks=` component: prompts, scores, and where it has them, training records.

    What stands under `scoring` in its settings decides scores alone: only the stage of the scores makes it with that, all
    others make it without.
    """

    categories: tuple[str, ...]
    external: tuple[str, ...]
    """Files and folders it reads from outside the project, which count by content (see `Stage`); left out: none."""

    def prompts(self, split: str) -> list[Prompt]:
        """Splits: train (GRPO), dev (tuning), val (reports)."""
        ...

    def records(self, seed: int, count: int) -> Iterable[Record]:
        """GoT training data: the first `count` records of an endless stream fixed by `seed`."""
        ...

    def score(self, samples: Sequence[Sample]) -> list[Score]:
        """One score per sample, by the rule of its prompt's category. Images are of the mode of their files, mostly RGB."""
        ...

    # What follows may be left out.

    images_per_prompt: int
    """Of its protocol, where `evaluation.images_per_prompt` is null; left out: 1."""

    first_seed: int | None
    """Image k of every prompt is drawn with the seed `first_seed + k`; left out or None: a seed of its own for every image."""

    metrics: Mapping[str, Metric]
    """Category -> what its scores are; left out: nothing is to be said of them."""

    all_categories: tuple[str, ...]
    """`categories` and those that its settings leave out, of which it knows the `texts` too; left out: `categories`."""

    def texts(self, category: str) -> Collection[str]:
        """The texts of all prompts of the category, those left out by its settings too: a picture of another text does not
        belong there. Left out: those of `prompts`.
        """
        ...

    def load(self) -> None:
        """Loads what `score` needs, so that what is missing is told before the work and not within it."""
        ...

    def mirrored(self, samples: Sequence[Sample]) -> list[Score | None]:
        """The scores that the samples would have if their images were mirrored left to right; None where such an image is
        no worse an answer (the prompt has no left or right). Left out: `evaluation.check=mirror` is refused.
        """
        ...

    def write_results(self, folder: Path, rows: Sequence[Mapping[str, Any]]) -> None:
        """Writes the rows of `scores.jsonl` in the forms that its official programs write."""
        ...

    def read_results(self, folder: Path) -> list[tuple[Prompt, Score]]:
        """The scores of files that its official programs have written, each with its prompt and `Prompt.number`."""
        ...

    fetches: ClassVar[Mapping[str, str]]
    """Of the class: what `harness.fetch` can fetch for it, name -> dotted path of `f(to: Path) -> None`, which fills that
    file or folder or raises ValueError with what to do."""

    races: ClassVar[str]
    """Of the class: dotted path of `f() -> Iterable[Race]`, what `harness.bench score` runs beside other ways to the same scores."""


class Judge(Protocol):
    """Answers questions: one answer each, in order."""

    def ask(self, questions: Sequence[Question]) -> list[Answer]: ...


class Grounder(Protocol):
    """Finds a named object in an image: boxes by falling confidence, [] if absent, None if unreadable."""

    def locate(self, images: Sequence[Image], names: Sequence[str]) -> list[list[Box] | None]: ...


class Detector(Protocol):
    """Finds objects in images, by falling confidence."""

    def detect(self, images: Sequence[Image]) -> list[list[Detection]]: ...


class ObjectDetector(Protocol):
    """Finds objects of many classes (UniDet, or detections given in a file). `name` says which, for tables."""

    name: str

    def detect(self, samples: Sequence[Sample], *, mirrored: bool = False) -> list[Detections | str]:
        """Of each sample's image, or of it mirrored left to right; a text is the reason why there are none."""
        ...


class DepthEstimator(Protocol):
    """Tells near from far. `name` says how, for tables."""

    name: str

    def depth(self, samples: Sequence[Sample], *, mirrored: bool = False) -> list[Image | str]:
        """A grey picture (mode L) of the size of each sample's image, 0 far to 255 near; a text is the reason why there is none."""
        ...


class Vqa(Protocol):
    """Answers yes-no questions about images. `name` says which model, for tables."""

    name: str

    def yes(self, images: Sequence[Image], questions: Sequence[Sequence[str]]) -> list[list[float]]:
        """P(yes) / (P(yes) + P(no)) of every question of every image, unrounded; as many lists as images."""
        ...


class Similarity(Protocol):
    """How well an image fits a text, on a scale of its own (CLIP, HPS: the raw cosine); None where it cannot say."""

    def similarity(self, images: Sequence[Image], texts: Sequence[str]) -> list[float | None]: ...


class Workspace(Protocol):
    """What a stage program is given to work in (made by `harness.stages.store`)."""

    folder: Path
    """Where the results go; it survives a kill, so checkpoints for resuming live here too."""

    def progress(
        self, step: int, total: int, metrics: Mapping[str, float | int | None] | None = None
    ) -> None:
        """Reports that `step` of `total` is done; `metrics` become one line of `metrics.jsonl`.

        A line for a step that is already there replaces it and all later ones (a resumed run).
        """
        ...
