"""What a plugin must offer. Everything the harness asks of a policy, trainer, benchmark, reward or expert is here.

A class named by `_target_` in a YAML file is constructed on the login node too, to check its settings
and to declare stages: keep constructors light and import torch inside methods.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from harness.types import Box, Detection, Prompt, Question, Record, Sample, Score, Stage, Tokens

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

Config = Mapping[str, Any]  # the resolved configuration of a cell, plain values


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How rollouts are drawn (the `rollout` settings).

    `guidance` <= 1 draws conditional rows only. `random` is `per_sample` (one generator per sample, so
    that results do not depend on the batch) or `upstream` (one stream for all, as GoT-R1's script).
    Temperature 0 is greedy.
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
        if self.max_chain_tokens < 1:
            raise ValueError(f"rollout.max_chain_tokens={self.max_chain_tokens}: give a whole number from 1")
        if self.random not in ("per_sample", "upstream"):
            raise ValueError(f"rollout.random={self.random!r}: allowed are per_sample and upstream")


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
    """A loaded model that plans and draws."""

    module: torch.nn.Module

    def rollout(self, prompts: Sequence[Prompt], seeds: Sequence[int], sampling: Sampling) -> list[Sample]:
        """One sample per (prompt, seed) pair, in order; runs as one batch."""
        ...

    def encode(self, records: Sequence[Record]) -> list[Tokens]:
        """Token ids of training records (images through the image tokenizer)."""
        ...

    def logprobs(self, tokens: Sequence[Tokens], sampling: Sampling, *, unconditional: Sequence[bool] = ()) -> TokenLogprobs:
        """Teacher-forced log-probs under `sampling`, with gradient where enabled.

        `sampling.guidance` > 1 scores image ids under the guided distribution; pass 1 for the conditional
        one. Rows marked `unconditional` have prompt and chain erased (condition dropout) and score only
        their image ids.
        """
        ...

    def save(self, folder: Path) -> None:
        """Writes a checkpoint folder that the recipe's `load` reads."""
        ...


class PolicyRecipe(Protocol):
    """The `policies=` component: how a starting checkpoint is made or found, and how one is loaded."""

    def start(self, config: Config) -> Stage:
        """The stage whose folder holds (or points to) the checkpoint that training starts from."""
        ...

    def load(self, folder: Path, *, trainable: bool = False) -> Policy: ...


class Trainer(Protocol):
    """The `trainers=` component: declares the stages from a starting checkpoint to a trained one."""

    def stages(self, config: Config, start: Stage) -> Sequence[Stage]:
        """In order; the last one's folder is the checkpoint that is evaluated."""
        ...


class Component(Protocol):
    """A reward component: one score per sample. `name` is what a total calls it."""

    name: str

    def __call__(self, samples: Sequence[Sample]) -> list[Score]: ...


class Benchmark(Protocol):
    """The `benchmarks=` component: prompts, scores, and where it has them, training records."""

    categories: tuple[str, ...]

    def prompts(self, split: str) -> list[Prompt]:
        """Splits: train (GRPO), dev (tuning), val (reports)."""
        ...

    def records(self, seed: int, count: int) -> Iterable[Record]:
        """GoT training data: the first `count` records of an endless stream fixed by `seed`."""
        ...

    def score(self, samples: Sequence[Sample]) -> list[Score]:
        """One score per sample, by the rule of its prompt's category."""
        ...


class Judge(Protocol):
    """Answers questions in words; None where no answer came."""

    def ask(self, questions: Sequence[Question]) -> list[str | None]: ...


class Grounder(Protocol):
    """Finds a named object in an image: boxes by falling confidence, [] if absent, None if unreadable."""

    def locate(self, images: Sequence[Image], names: Sequence[str]) -> list[list[Box] | None]: ...


class Detector(Protocol):
    """Finds objects in images, by falling confidence."""

    def detect(self, images: Sequence[Image]) -> list[list[Detection]]: ...


class Similarity(Protocol):
    """How well an image fits a text, in [0, 1]; None where it cannot say."""

    def similarity(self, images: Sequence[Image], texts: Sequence[str]) -> list[float | None]: ...


class Workspace(Protocol):
    """What a stage program is given to work in (made by `harness.stages`)."""

    folder: Path
    """Where the results go; it survives a kill, so checkpoints for resuming live here too."""

    def progress(self, step: int, total: int, metrics: Mapping[str, float | int | None] | None = None) -> None:
        """Reports that `step` of `total` is done; `metrics` become one line of `metrics.jsonl`.

        A line for a step that is already there replaces it and all later ones (a resumed run).
        """
        ...
