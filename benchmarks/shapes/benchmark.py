"""The shapes world as a benchmark of the harness."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from itertools import islice
from random import Random
from typing import TYPE_CHECKING, Any

from benchmarks.shapes.chains import clean_chain, nearest_box, roles_of
from benchmarks.shapes.detector import ShapesDetector
from benchmarks.shapes.facts import Facts
from benchmarks.shapes.grounding import ground
from benchmarks.shapes.prompts import CATEGORIES, distinct_prompts
from benchmarks.shapes.records import stream
from benchmarks.shapes.relations import holds, pixels
from benchmarks.shapes.scoring import find, score_detections
from harness.protocols import Benchmark
from harness.relations import Found, Relation, Roles
from harness.settings import share, whole_number
from harness.types import Box, Chain, Metric, Prompt, Record, Region, Sample, Score

if TYPE_CHECKING:
    from PIL.Image import Image

# in the order in which they are drawn, so that val does not depend on the sizes of the others
SPLITS = ("val", "dev", "train")


class Shapes(Benchmark):
    """Prompts, training records and scores of the shapes world.

    Args:
        categories: those of the study, in the order of its table.
        prompt_seed: decides which prompts the splits hold.
        train_per_category: prompts for GRPO.
        dev_per_category: prompts for tuning.
        val_per_category: prompts for reports.
        unseen_share: of the val prompts, those that hold an attribute-object pair which no train or dev
            prompt holds.
        unfaithful_share: of the records, those whose chain and image contradict the prompt.
        n_prompts: only the first so many prompts of each category and split; None for all.
        oracle: this world's exact experts by role, which `judge=oracle` and `grounder=oracle` refer to.
            They decide no prompt and no score, so the stages of a study know neither these nor `simulated`.
        simulated: those that err, which `judge=simulated`, `clip=simulated` and `phrase_grounder=simulated`
            refer to.
    """

    locator = Metric(name="exact detector")

    def __init__(
        self,
        *,
        categories: Sequence[str],
        prompt_seed: int,
        train_per_category: int,
        dev_per_category: int,
        val_per_category: int,
        unseen_share: float,
        unfaithful_share: float,
        n_prompts: int | None,
        oracle: Mapping[str, Any] | None = None,
        simulated: Mapping[str, Any] | None = None,
    ) -> None:
        self.categories = _known(categories)
        self.sizes = {"train": train_per_category, "dev": dev_per_category, "val": val_per_category}
        for name, size in self.sizes.items():
            whole_number(f"benchmarks.{name}_per_category", size)
        share("benchmarks.unseen_share", unseen_share)
        share("benchmarks.unfaithful_share", unfaithful_share)
        if n_prompts is not None:
            whole_number("benchmarks.n_prompts", n_prompts, hint=", or null for all prompts")
        self.prompt_seed = prompt_seed
        self.unseen_share = unseen_share
        self.unfaithful_share = unfaithful_share
        self.n_prompts = n_prompts
        self.oracle, self.simulated = oracle or {}, simulated or {}
        self._detector = ShapesDetector()

    def prompts(self, split: str) -> list[Prompt]:
        """The prompts of a split, category by category; all splits are disjoint."""
        if split not in SPLITS:
            raise ValueError(f"the shapes benchmark has no split {split!r}; it has train, dev and val")
        prompts: list[Prompt] = []
        for category in self.categories:
            prompts += self._splits[category][split][: self.n_prompts]
        return prompts

    def records(self, seed: int, count: int) -> Iterable[Record]:
        """The first `count` training records; their prompts are drawn afresh, and are in neither dev nor
        val.
        """
        held_out: set[str] = set()
        for splits in self._splits.values():
            held_out.update(prompt.text for prompt in (*splits["dev"], *splits["val"]))
        return islice(stream(seed, self.categories, self.unfaithful_share, held_out), count)

    def relation(self, prompt: Prompt) -> Relation | None:
        """The relation of the prompt's facts: the first object is the subject, whatever the phrasing."""
        facts = Facts.read(prompt.facts)
        if facts is None or facts.relation is None:
            return None
        subject, other = facts.objects[:2]
        return Relation(subject=subject.name, word=facts.relation, object=other.name)

    def roles(self, prompt: Prompt, chain: Chain) -> Roles | None:
        """The objects of the chain that have exactly the attributes of subject and object."""
        facts = Facts.read(prompt.facts)
        return None if facts is None else roles_of(facts, chain)

    def relation_holds(self, word: str, subject: Region, other: Region) -> bool:
        """Whether a relation holds without a cut: the axis dominates, no overlap, near enough, sizes."""
        return holds(word, pixels(subject), pixels(other)) == 1

    def oracle_chain(
        self, prompt: Prompt, style: str, boxes: tuple[Box, Box] | None, rng: Random
    ) -> str | None:
        """The chain of a clean scene; None for prompts without a relation."""
        facts = Facts.read(prompt.facts)
        if facts is None or facts.relation is None:
            return None
        return clean_chain(facts, facts.relation, style, boxes, rng)

    def place(self, box: Box) -> Box:
        """The nearest box on the grid of cells."""
        return nearest_box(box)

    def locate(self, samples: Sequence[Sample]) -> list[Found | str]:
        """The objects that show exactly what the prompt says of its first two."""
        located: list[Found | str] = []
        seen = self._detector.detect([sample.image for sample in samples])
        for sample, detections in zip(samples, seen, strict=True):
            facts = Facts.read(sample.prompt.facts)
            assert facts is not None and facts.relation is not None, "only prompts with a relation are asked"
            subject, other = (
                None if shown is None else shown.box for shown in find(facts.objects, detections)[:2]
            )
            located.append((subject, other))
        return located

    def ground(self, images: Sequence[Image], names: Sequence[str]) -> list[list[Box] | None]:
        """The boxes of the objects that have all a name says."""
        return ground(self._detector, images, names)

    def score(self, samples: Sequence[Sample]) -> list[Score]:
        """Scores by pixels alone; a prompt that carries no facts of this world is unscored."""
        seen = self._detector.detect([sample.image for sample in samples])
        return [
            self._score(sample.prompt, detections) for sample, detections in zip(samples, seen, strict=True)
        ]

    def _score(self, prompt: Prompt, detections: Sequence[Any]) -> Score:
        facts = Facts.read(prompt.facts)
        if facts is None or prompt.category not in CATEGORIES:
            return Score(
                value=None,
                unscored=f"prompt {prompt.id} is not of the shapes world: it has no facts or category of it",
            )
        return score_detections(prompt.category, facts, detections)

    @cached_property
    def _splits(self) -> dict[str, dict[str, list[Prompt]]]:
        return {category: self._draw(category) for category in self.categories}

    def _draw(self, category: str) -> dict[str, list[Prompt]]:
        taken: set[str] = set()
        splits = {}
        for split in SPLITS:
            unseen_share = self.unseen_share if split == "val" else 0.0
            # Spread evenly, so that the first few have the share too.
            unseen = [
                int((index + 1) * unseen_share) > int(index * unseen_share)
                for index in range(self.sizes[split])
            ]
            rng = Random(f"shapes prompts {self.prompt_seed} {category} {split}")
            splits[split] = [
                Prompt(
                    id=f"{category}-{split}-{index:04d}", text=text, category=category, facts=facts.plain()
                )
                for index, (text, facts) in enumerate(distinct_prompts(rng, category, unseen, taken))
            ]
        return splits


def _known(categories: Sequence[str]) -> tuple[str, ...]:
    unknown = [name for name in categories if name not in CATEGORIES]
    if unknown or not categories or len(set(categories)) < len(categories):
        raise ValueError(
            f"benchmarks.categories is {list(categories)}; give one or more of "
            f"{', '.join(CATEGORIES)}, each once"
        )
    return tuple(categories)
