"""T2I-CompBench as a benchmark of the harness: official prompts and official scores from one install."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from benchmarks.t2i_compbench.colors import colors_of
from benchmarks.t2i_compbench.files import STEMS, color_val_file, color_val_version
from benchmarks.t2i_compbench.prompts import Prompts, has_prompts, known_categories, prompt_folder
from harness.protocols import Benchmark
from harness.relations import Found, Relation, relation_of
from harness.types import Prompt, Record, Sample, Score

if TYPE_CHECKING:
    from benchmarks.t2i_compbench.scorer import Scoring

LEFT_OR_RIGHT = re.compile(r"\b(left|right)\b", re.IGNORECASE)


class T2ICompBench(Benchmark):
    """The eight categories of T2I-CompBench (arXiv 2307.06350, and its ++ for 3D-spatial and numeracy).

    Args:
        root: the folder of the official prompt files.
        categories: those of the study, in the order of its table.
        color_val: version of color_val.txt, "2025-09-03" or "2023"; None takes the file as it lies there,
            and says which it is.
        dev_per_category, n_prompts, captions, annotations: see `prompts.Prompts`.
        scoring: how they are scored; None where only prompts are wanted, whose stages do not depend on
            the code of scoring then.

    Raises:
        ValueError: files are missing, or a setting is none of those allowed.
    """

    images_per_prompt = 10
    first_seed = 42
    fetches: ClassVar[Mapping[str, str]] = {
        "t2i_compbench": "benchmarks.t2i_compbench.fetch.prompts",
        "noun_phrases": "benchmarks.t2i_compbench.fetch.noun_phrases",
    }
    races = "benchmarks.t2i_compbench.races.scoring.races"
    gpu = "benchmarks.t2i_compbench.races.gpu.phases"

    def __init__(
        self,
        *,
        root: str,
        categories: Sequence[str],
        color_val: str | None,
        dev_per_category: int,
        n_prompts: int | None,
        captions: Sequence[str],
        annotations: str | None,
        scoring: Scoring | None = None,
    ) -> None:
        self.categories = known_categories(categories)
        folder = prompt_folder(root, self.categories)
        self.all_categories = tuple(
            dict.fromkeys((*(name for name in STEMS if has_prompts(folder, name)), *self.categories))
        )
        color_file = color_val_file(folder, color_val)
        self._prompts = Prompts(
            root=folder,
            categories=self.categories,
            color_val=color_file,
            dev_per_category=dev_per_category,
            n_prompts=n_prompts,
            captions=captions,
            annotations=annotations,
        )
        self.external: tuple[str, ...] = (root, *captions, *([annotations] if annotations else []))
        self._scored = scoring is not None
        if scoring is not None:
            self._scorer = scoring.scorer(folder, self.categories, self._prompts)
            self._locate, self.locator = scoring.locator, scoring.locator.metric
            self.external += scoring.external
            version = (
                {"color": f"prompts of {color_val_version(color_file)}"} if "color" in self.categories else {}
            )
            self.metrics = {
                name: self._scorer.metric(name, *([version[name]] if name in version else []))
                for name in self.categories
            }
            for reason, concerned in self._scorer.absent().items():
                _say_once(f"note: images of {', '.join(concerned)} will be unscored: {reason}")

    def prompts(self, split: str) -> list[Prompt]:
        """The prompts of train, dev or val, category by category.

        Raises:
            ValueError: there is no such split, or a file cannot be read as prompts.
        """
        return self._prompts.split(split)

    def texts(self, category: str) -> frozenset[str]:
        return self._prompts.texts(category)

    def records(self, seed: int, count: int) -> Iterable[Record]:
        """There are none.

        Raises:
            ValueError: always; it says what SFT can train on.
        """
        raise ValueError(
            "T2I-CompBench holds prompts alone, no chains and images to imitate: train on GoT data "
            "with data=got, "
            "or leave SFT out with trainers=grpo or trainers=frozen"
        )

    def relation(self, prompt: Prompt) -> Relation | None:
        """The relation of prompts worded like those of spatial_val.txt."""
        return relation_of(prompt.text)

    def colors(self, prompt: Prompt) -> tuple[tuple[str, str], ...]:
        """The colors and objects of prompts worded like most of color_val.txt."""
        return colors_of(prompt.text)

    def locate(self, samples: Sequence[Sample]) -> list[Found | str]:
        """Subject and object of the relation, by the detector of `scoring.locator`."""
        return self._locate(samples)

    def missing(self) -> list[str]:
        """Weights and label files that the categories need, and that are not here."""
        return self._scorer.missing() if self._scored else []

    def load(self) -> None:
        """Loads every model that the categories need.

        Raises:
            ValueError: one is not there; says where it comes from.
        """
        self._scorer.load()

    def score(self, samples: Sequence[Sample]) -> list[Score]:
        """By the official rule of each prompt's category, or what `mode` makes of it."""
        return self._scorer.score(samples)

    def mirrored(self, samples: Sequence[Sample]) -> list[Score | None]:
        """The mirrored scores of spatial prompts that say left or right."""
        chosen = [sample for sample in samples if self._is_directed(sample.prompt)]
        scores = iter(self._scorer.score(chosen, mirrored=True))
        return [next(scores) if self._is_directed(sample.prompt) else None for sample in samples]

    def _is_directed(self, prompt: Prompt) -> bool:
        return bool(LEFT_OR_RIGHT.search(prompt.text)) and self._scorer.sees_relations(prompt)

    def write_results(self, folder: Path, rows: Sequence[Mapping[str, Any]]) -> None:
        """vqa_result.json of every category that is complete, as the official programs write it."""
        for reason in self._scorer.write(folder, rows):
            print(f"note: {reason}", file=sys.stderr)

    def read_results(self, folder: Path) -> list[tuple[Prompt, Score]]:
        """The scores of official result files, for every val prompt.

        Raises:
            ValueError: a category's files are missing, or are no such files.
        """
        return self._scorer.read(folder)


@cache
def _say_once(text: str) -> None:
    print(text, file=sys.stderr)
