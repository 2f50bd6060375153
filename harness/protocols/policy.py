"""The roles of `policies=`: a model with its starting checkpoint, or a set of images that exist already."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    import torch

    from harness.types import (
        Config,
        Drawing,
        Prompt,
        Record,
        Sample,
        SampledChain,
        Sampling,
        Stage,
        TokenLogprobs,
        Tokens,
    )


class Policy(ABC):
    """The base class of loaded models. A policy that is never trained needs `rollout` only."""

    module: torch.nn.Module
    """The module whose parameters training changes."""

    @property
    def image_size(self) -> tuple[int, int]:
        """Width and height, in pixels, of the images that the policy draws and that `encode` takes."""
        raise NotImplementedError

    def watch(self, on_step: Callable[[str, int, int], None]) -> None:
        """Has `rollout`, `write` and `draw` call `on_step` at each step, for a display of progress.

        Its arguments are the part ("chain" or "image"), the number of the step from 1, and the largest such
        number. Default: it is never called.
        """
        return None

    @abstractmethod
    def rollout(self, prompts: Sequence[Prompt], seeds: Sequence[int], sampling: Sampling) -> list[Sample]:
        """One sample per (prompt, seed) pair, in order, as one batch.

        `Prompt.number` is the index of the image among the images of its prompt.
        """

    def write(
        self, prompts: Sequence[Prompt], seeds: Sequence[int], sampling: Sampling
    ) -> list[SampledChain]:
        """The chains that `rollout` would write for these pairs, without images."""
        raise NotImplementedError

    def draw(self, drawings: Sequence[Drawing], seeds: Sequence[int], sampling: Sampling) -> list[Sample]:
        """One sample per (drawing, seed) pair, in order, as one batch.

        `rollout(p, s)` equals `draw` from `write(p, s)` with the same seeds. `Sample.logprobs` score the
        given chain under `sampling`. Scoring sees the prompt and never the caption.

        Raises:
            ValueError: a chain does not end with begin-of-image, holds it earlier, or is too long.
        """
        raise NotImplementedError

    def chain_ids(self, text: str) -> tuple[int, ...]:
        """The ids that `draw` makes of the text of a chain."""
        raise NotImplementedError

    def encode(self, records: Sequence[Record]) -> list[Tokens]:
        """Token ids of training records (images through the image tokenizer)."""
        raise NotImplementedError

    def logprobs(
        self,
        tokens: Sequence[Tokens],
        sampling: Sampling,
        *,
        unconditional: Sequence[bool] = (),
        measures: Sequence[str] = (),
    ) -> TokenLogprobs:
        """Teacher-forced log-probs under `sampling`, with gradient where it is enabled.

        `sampling.guidance` > 1 scores image ids under the guided distribution, 1 scores them under the
        conditional one. Rows marked `unconditional` have prompt and chain erased (condition dropout) and
        score only their image ids. `measures` name what to measure besides (see `TokenLogprobs`).
        """
        raise NotImplementedError

    def save(self, folder: Path) -> None:
        """Writes a checkpoint folder that the recipe's `load` reads."""
        raise NotImplementedError

    def blocks(self) -> Sequence[torch.nn.Module]:
        """The large layers, for FSDP to shard; `logprobs` only calls them. Default: none."""
        return ()


class PolicyRecipe(ABC):
    """The base class of `policies=` components with a model: its start, and how a checkpoint is loaded."""

    trainable: bool = True
    """False where `load(..., trainable=True)` is impossible (diffusion pipelines)."""

    writes_chains: bool = False
    """True where the policies have `write`, `draw` and `chain_ids`: they draw from a chain that is given."""

    encoding: ClassVar[Mapping[str, Any]] = {}
    """Settings that replace the user's while `Policy.encode` runs: same ids, less memory."""

    sizes: ClassVar[str | None] = None
    """Dotted path of `f(recipe, folder: Path | None) -> ModelSizes | None`: the model's sizes, without torch.

    `folder` is the checkpoint that training starts from, if it exists already. The result is None where the
    sizes cannot be known, and the path is None where they never are.
    """

    races: ClassVar[str | None] = None
    """Dotted path of `f() -> Iterable[Race]`, the races of `harness.bench rollout`; None: no races."""

    gpu: ClassVar[str | None] = None
    """Dotted path of `f(device: str, work: Path) -> GpuBench`, the policy's part of `harness.bench gpu`;
    None: it has none. `work` is a folder for files that several phases read."""

    load_to_draw: Callable[[Path], Policy] | None = None
    """A method: the policy of a folder for `rollout`, `write`, `draw` and `chain_ids` alone, in less memory.
    Without this method, `load` is called for that too."""

    real_size: ClassVar[str | None] = None
    """Dotted path of `f() -> Sequence[RealSize]`, the models of `harness.bench real_size`; None: none."""

    @abstractmethod
    def start(self, config: Config) -> Stage:
        """The stage whose folder holds (or points to) the checkpoint that training starts from."""

    @abstractmethod
    def load(self, folder: Path, *, trainable: bool = False) -> Policy:
        """The policy of a checkpoint folder."""


class ImageSource(ABC):
    """The base class of `policies=` components for images that exist already: nothing is trained or drawn."""

    @abstractmethod
    def samples(self, config: Config) -> Stage:
        """The stage `samples`, whose folder holds a `samples.jsonl`.

        A `protocol.json` beside it may add labels and notes to tables:
        `{"labels": {category: [text, ...]}, "notes": [text, ...]}`.
        """
