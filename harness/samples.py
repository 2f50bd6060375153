"""A folder of samples on disk: `samples.jsonl` with one row per sample, pictures under `images/`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

from harness import plan, rows
from harness.types import Prompt, Sample, Tokens

NO_TOKENS = Tokens(prompt=(), chain=(), image=())


@dataclass(frozen=True)
class SampleFolder:
    """Rows are appended in blocks, each block flushed after its pictures: a kill leaves whole rows."""

    folder: Path

    @property
    def index(self) -> Path:
        return self.folder / "samples.jsonl"

    def rows(self) -> list[dict[str, Any]]:
        """All complete rows; a line cut off by a kill is left out."""
        return rows.read(self.index)

    def keep(self, count: int) -> None:
        """Drops every row after the first `count`, and any line that was cut off."""
        partial = self.index.with_suffix(".tmp")
        rows.write(partial, self.rows()[:count])
        partial.replace(self.index)

    def append(self, start: int, samples: Sequence[Sample]) -> None:
        (self.folder / "images").mkdir(parents=True, exist_ok=True)
        rows.write(self.index, [self._row(index, sample) for index, sample in enumerate(samples, start)], "a")

    def _row(self, index: int, sample: Sample) -> dict[str, Any]:
        name = f"images/{index:05d}.png"
        sample.image.save(self.folder / name)
        return {
            "index": index,
            "prompt_id": sample.prompt.id,
            "prompt": sample.prompt.text,
            "category": sample.prompt.category,
            "facts": dict(sample.prompt.facts),
            "seed": sample.seed,
            "chain": sample.plan.text,
            "faults": list(sample.plan.faults),
            "truncated": sample.tokens.forced_end,
            "image": name,
        }

    def read(self) -> Iterator[Sample]:
        """The samples again, without ids and log-probs."""
        for row in self.rows():
            prompt = Prompt(id=row["prompt_id"], text=row["prompt"], category=row["category"], facts=row["facts"])
            with Image.open(self.folder / row["image"]) as image:
                image.load()
            written = replace(plan.parse(row["chain"]), faults=tuple(row["faults"]))
            yield Sample(prompt=prompt, plan=written, image=image, tokens=NO_TOKENS, logprobs=(), seed=row["seed"])
