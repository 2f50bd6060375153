"""A benchmark of given prompts, for what reads a benchmark's prompts and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from harness.protocols import Benchmark
from harness.types import Prompt, Sample, Score


class Given(Benchmark):
    """The texts of each category as its prompts.

    Args:
        given: category -> texts.
        n_prompts: of each only the first; None for all.
        categories: of them only these; None for all.
    """

    def __init__(
        self,
        *,
        given: Mapping[str, Sequence[str]],
        n_prompts: int | None = None,
        categories: Sequence[str] | None = None,
    ) -> None:
        self._given, self._n_prompts = given, n_prompts
        self.categories = tuple(given if categories is None else categories)

    def prompts(self, split: str) -> list[Prompt]:
        named = (
            (name, place, text)
            for name in self.categories
            for place, text in enumerate(self._given[name][: self._n_prompts])
        )
        return [
            Prompt(id=f"{name}/{place:04d}", text=text, category=name, facts={"place": place})
            for name, place, text in named
        ]

    def score(self, samples: Sequence[Sample]) -> list[Score]:
        raise AssertionError("its prompts are read and nothing else")


class Known(Given):
    """It also tells the texts that are left out."""

    @property
    def all_categories(self) -> tuple[str, ...]:
        return tuple(self._given)

    def texts(self, category: str) -> Sequence[str]:
        return self._given[category]


class KnownFacts(Known):
    """It knows the facts of its prompts, by their texts."""

    def __init__(self, *, facts: Mapping[str, Any], **settings: Any) -> None:
        super().__init__(**settings)
        self._facts = facts

    def prompts(self, split: str) -> list[Prompt]:
        return [replace(one, facts=self._facts[one.text]) for one in super().prompts(split)]
