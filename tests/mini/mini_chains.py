"""Cases of interventions on chains that no policy wrote."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from mini_prompts import Given

from benchmarks.t2i_compbench.colors import colors_of
from harness.chain import parse
from harness.interventions.case import Case
from harness.interventions.pool import OwnChain, Pool
from harness.interventions.reading import Reading
from harness.protocols import Benchmark
from harness.relations import Relation, relation_of
from harness.types import Prompt, SampledChain


class Worded(Given):
    """Reads relations and colors from the words of its prompts, as T2I-CompBench does."""

    def __init__(self, texts: Sequence[str] = ()) -> None:
        super().__init__(given={"2D-spatial": texts})

    def relation(self, prompt: Prompt) -> Relation | None:
        return relation_of(prompt.text)

    def colors(self, prompt: Prompt) -> tuple[tuple[str, str], ...]:
        return colors_of(prompt.text)


def prompt_of(text: str, name: str = "own", category: str = "2D-spatial") -> Prompt:
    return Prompt(id=name, text=text, category=category)


def sampled(text: str) -> SampledChain:
    """The chain as if its characters were the ids."""
    ids = tuple(map(ord, text))
    return SampledChain(chain=parse(text), ids=ids, logprobs=(0.0,) * len(ids))


def case_of(
    prompt: Prompt | str,
    *chains: str,
    benchmark: Benchmark | None = None,
    roles: str = "name",
    rule: str = "own",
    pool: Sequence[OwnChain] = (),
    seed: int = 0,
) -> Case:
    """The case of a prompt with these chains, its own one first."""
    asked = prompt if isinstance(prompt, Prompt) else prompt_of(prompt)
    reading = Reading(benchmark or Worded(), asked, roles=roles, rule=rule)
    return Case(
        reading=reading, chains=list(map(sampled, chains)), pool=Pool(pool, seed=seed), rng=Random(seed)
    )


def pool_of(texts: Sequence[str], category: str = "2D-spatial") -> list[OwnChain]:
    """Own chains of other prompts."""
    return [
        OwnChain(prompt=prompt_of(f"prompt {place}", f"{place:04d}", category), chain=sampled(text))
        for place, text in enumerate(texts)
    ]
