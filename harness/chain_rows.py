"""The rows of `chains.jsonl`: what a policy wrote for the prompts of an evaluation.

`ChainRow` is the only reader and writer of these rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from harness.chain import parse
from harness.files import read_rows
from harness.types import Prompt, SampledChain

INDEX = "chains.jsonl"


@dataclass(frozen=True, kw_only=True)
class ChainRow:
    """A row of `chains.jsonl`: one chain, as sampled, for one image of a prompt.

    `seed` is the seed it was sampled with. `ids`, `logprobs` and `forced_end` are those of `SampledChain`.
    """

    index: int
    prompt_id: str
    number: int
    prompt: str
    category: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    seed: int
    chain: str
    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    forced_end: bool

    @classmethod
    def of(cls, index: int, prompt: Prompt, seed: int, written: SampledChain) -> ChainRow:
        """Return the row of a chain that a policy wrote for a prompt."""
        return cls(
            index=index,
            prompt_id=prompt.id,
            number=prompt.number,
            prompt=prompt.text,
            category=prompt.category,
            facts=prompt.facts,
            seed=seed,
            chain=written.chain.text,
            ids=written.ids,
            logprobs=written.logprobs,
            forced_end=written.forced_end,
        )

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> ChainRow:
        """Return the row of a JSON object. Raises KeyError where a field is missing; ignores other fields."""
        values = {field.name: row[field.name] for field in fields(cls)}
        return cls(**{**values, "ids": tuple(row["ids"]), "logprobs": tuple(row["logprobs"])})

    def to_prompt(self) -> Prompt:
        """Return the prompt that the chain was written for."""
        return Prompt(
            id=self.prompt_id, text=self.prompt, category=self.category, facts=self.facts, number=self.number
        )

    def to_chain(self) -> SampledChain:
        """Return the chain, as the policy wrote it."""
        return SampledChain(
            chain=parse(self.chain), ids=self.ids, logprobs=self.logprobs, forced_end=self.forced_end
        )


def read_chains(folder: Path) -> list[ChainRow]:
    """Return the complete rows of a folder's `chains.jsonl`."""
    return [ChainRow.from_json(row) for row in read_rows(folder / INDEX)]
