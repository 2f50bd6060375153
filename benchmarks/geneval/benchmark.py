"""GenEval as a benchmark of the harness: the published prompts, judged by the published rules."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from benchmarks.geneval.files import TAGS, read_metadata
from harness.protocols import Benchmark
from harness.settings import whole_number
from harness.types import Metric, Prompt, Record, Sample, Score

if TYPE_CHECKING:
    from benchmarks.geneval.scoring import Scoring

SIDES = {"left of", "right of"}


class GenEval(Benchmark):
    """GenEval (arXiv 2310.11513): an image is right if it shows the named objects in the stated
    number, color and position.

    Args:
        root: the folder of the published files.
        categories: the tags of the study; their prompts stand in the order of the file.
        n_prompts: only the first so many prompts of each; None for all.
        scoring: how they are judged; None where only prompts are wanted, whose stages do not depend on
            the code of scoring then.

    Raises:
        ValueError: files are missing or damaged, or a setting is none of those allowed.
    """

    images_per_prompt = 4
    first_seed = 42
    fetches: ClassVar[Mapping[str, str]] = {"geneval": "benchmarks.geneval.fetch.prompts"}
    races = "benchmarks.geneval.race.mask2former_race"
    gpu = "benchmarks.geneval.race.phases"

    def __init__(
        self, *, root: str, categories: Sequence[str], n_prompts: int | None, scoring: Scoring | None = None
    ) -> None:
        _check_settings(categories, n_prompts)
        self.categories, self._n_prompts = tuple(categories), n_prompts
        self._every = [
            Prompt(id=f"{line['tag']}/{place:05d}", text=line["prompt"], category=line["tag"], facts=line)
            for place, line in enumerate(read_metadata(Path(root)))
        ]
        self.all_categories = tuple(dict.fromkeys(prompt.category for prompt in self._every))
        self.external: tuple[str, ...] = (root,)
        if scoring is not None:
            self._scorer = scoring.scorer(Path(root), self.categories, self._every)
            self.external += scoring.external
            self.metrics = dict.fromkeys(self.categories, self._scorer.metric)

    def prompts(self, split: str) -> list[Prompt]:
        """The prompts of val in the order of their file; the number in an id is that of its official folder.

        Raises:
            ValueError: there is no split of that name.
        """
        if split != "val":
            raise ValueError(
                f"GenEval has no split {split!r}, only val: it is there to evaluate on. Train with "
                "another benchmark, such as "
                "benchmarks=t2i_compbench, then score the checkpoint with benchmarks=geneval "
                "trainers=frozen policies.checkpoint=FOLDER"
            )
        chosen: set[str] = set()
        for name in self.categories:
            of_category = [prompt.id for prompt in self._every if prompt.category == name]
            chosen.update(of_category[: self._n_prompts])
        return [prompt for prompt in self._every if prompt.id in chosen]

    def texts(self, category: str) -> frozenset[str]:
        return frozenset(one.text for one in self._every if one.category == category)

    def records(self, seed: int, count: int) -> Iterable[Record]:
        """There are none.

        Raises:
            ValueError: always; it says what SFT can train on.
        """
        raise ValueError(
            "GenEval holds prompts alone, no chains and images to imitate: train on GoT data with "
            "data=got, or leave SFT out"
        )

    def load(self) -> None:
        """Loads every model that the categories need.

        Raises:
            ValueError: one is not there; says where it comes from.
        """
        self._scorer.load()

    def score(self, samples: Sequence[Sample]) -> list[Score]:
        """1 for an image that is right by GenEval's rules, or by what `mode` makes of them, and 0 for any
        other.
        """
        return self._scorer.score(samples)

    def mirrored(self, samples: Sequence[Sample]) -> list[Score | None]:
        """The mirrored scores of prompts that say left or right."""
        chosen = [sample for sample in samples if _is_directed(sample.prompt)]
        scores = iter(self._scorer.score(chosen, mirrored=True))
        return [next(scores) if _is_directed(sample.prompt) else None for sample in samples]

    def write_results(self, folder: Path, rows: Sequence[Mapping[str, Any]]) -> None:
        """results.jsonl and summary.txt as the official programs write and print them, where every image
        is judged.
        """
        if reason := self._scorer.write(folder, rows):
            print(f"note: {reason}", file=sys.stderr)

    def read_results(self, folder: Path) -> list[tuple[Prompt, Score]]:
        """What results.jsonl of the official program says of all images of the categories.

        Raises:
            ValueError: the file is missing, no such file, or does not hold them.
        """
        found = self._scorer.read(folder, self.categories)
        self.metrics = {name: self._imported(name, found) for name in self.categories}
        return found

    def _imported(self, category: str, found: Sequence[tuple[Prompt, Score]]) -> Metric:
        """The metric of imported results, which says how many prompts were rewritten."""
        published = self.texts(category)
        prompts = [prompt for prompt, _ in found if prompt.category == category]
        rewritten = {prompt.id for prompt in prompts if prompt.text not in published}
        if not rewritten:
            return self._scorer.official
        share = f"{len(rewritten)} of {len({prompt.id for prompt in prompts})}"
        return Metric(name=f"{self._scorer.official.name} (rewritten prompts: {share})")


def _is_directed(prompt: Prompt) -> bool:
    return any(entry["position"][0] in SIDES for entry in prompt.facts["include"] if "position" in entry)


def _check_settings(categories: Sequence[str], n_prompts: int | None) -> None:
    if not categories or len(set(categories)) < len(categories) or not set(categories) <= set(TAGS):
        raise ValueError(
            f"benchmarks.categories={list(categories)}: give one or more of {', '.join(TAGS)}, each once"
        )
    if n_prompts is not None:
        whole_number("benchmarks.n_prompts", n_prompts, hint=", or null for all")
