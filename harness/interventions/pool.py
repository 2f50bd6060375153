"""The own chains of a split, from which interventions take boxes, donors and chains of other prompts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from random import Random

from harness.relations import boxed_places
from harness.seeds import derive
from harness.types import Box, Prompt, SampledChain


@dataclass(frozen=True, kw_only=True)
class OwnChain:
    """A chain and the prompt it was written for; `prompt.number` is the number of its image."""

    prompt: Prompt
    chain: SampledChain


class Pool:
    """The own chains of all prompts of a split, in their order.

    Args:
        chains: one per prompt and image number.
        seed: decides which chain `others` of a category begin with.
    """

    def __init__(self, chains: Sequence[OwnChain], seed: int) -> None:
        self._chains = chains
        self._seed = seed

    @cached_property
    def boxes(self) -> list[Box]:
        """Every box with an area."""
        found: list[Box] = []
        for own in self._chains:
            boxes = (planned.box for planned in own.chain.chain.objects)
            found += [box for box in boxes if box is not None and box.area > 0]
        return found

    def donors(self, prompt: Prompt) -> list[OwnChain]:
        """The chains of other prompts with two boxes or more."""
        return [own for own in self._pairs if own.prompt.id != prompt.id]

    def others(self, prompt: Prompt) -> Iterator[OwnChain]:
        """The chains of the other prompts of the category with the same image number, sorted by id.

        They begin a fixed distance behind the prompt, which the seed and the category decide.
        """
        own = self._by_category.get((prompt.category, prompt.number), [])
        places = [place for place, one in enumerate(own) if one.prompt.id == prompt.id]
        if len(own) < 2 or not places:
            return
        shift = Random(derive(self._seed, "other", prompt.category)).randrange(1, len(own))
        for step in range(len(own)):
            other = own[(places[0] + shift + step) % len(own)]
            if other.prompt.id != prompt.id:
                yield other

    @cached_property
    def _pairs(self) -> list[OwnChain]:
        return [own for own in self._chains if len(boxed_places(own.chain.chain)) > 1]

    @cached_property
    def _by_category(self) -> dict[tuple[str, int], list[OwnChain]]:
        found: dict[tuple[str, int], list[OwnChain]] = {}
        for own in sorted(self._chains, key=lambda one: one.prompt.id):
            found.setdefault((own.prompt.category, own.prompt.number), []).append(own)
        return found
