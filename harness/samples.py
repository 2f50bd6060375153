"""A folder of samples on disk: `samples.jsonl` with one row per sample, pictures under `images/`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

from harness.chain import parse
from harness.files import read_rows, write_rows
from harness.types import Prompt, Sample, Tokens

NO_TOKENS = Tokens(prompt=(), chain=(), image=())
UNREADABLE = (
    OSError,
    SyntaxError,
    ValueError,
    Image.DecompressionBombError,
)  # what Pillow raises for files that are no whole picture


@dataclass(frozen=True)
class SampleFolder:
    """Rows are appended in blocks, each block flushed after its pictures: a kill leaves whole rows.

    A row's `image` is a path within the folder, or an absolute one of a picture that lies elsewhere.
    """

    folder: Path

    @property
    def index(self) -> Path:
        return self.folder / "samples.jsonl"

    def rows(self) -> list[dict[str, Any]]:
        """All complete rows; a line cut off by a kill is left out."""
        return read_rows(self.index)

    def keep(self, count: int) -> None:
        """Drops every row after the first `count`, and any line that was cut off."""
        partial = self.index.with_suffix(".tmp")
        write_rows(partial, self.rows()[:count])
        partial.replace(self.index)

    def append(self, start: int, samples: Sequence[Sample]) -> None:
        (self.folder / "images").mkdir(parents=True, exist_ok=True)
        write_rows(self.index, [self._row(index, sample) for index, sample in enumerate(samples, start)], "a")

    def _row(self, index: int, sample: Sample) -> dict[str, Any]:
        name = f"images/{index:05d}.png"
        sample.image.save(self.folder / name)
        return {
            "index": index,
            "prompt_id": sample.prompt.id,
            "number": sample.prompt.number,
            "prompt": sample.prompt.text,
            "category": sample.prompt.category,
            "facts": dict(sample.prompt.facts),
            "seed": sample.seed,
            "chain": sample.chain.text,
            "faults": list(sample.chain.faults),
            "truncated": sample.tokens.forced_end,
            "image": name,
        }

    def read(self) -> Iterator[Sample]:
        """The samples again, one at a time, as `sample` gives them."""
        return (self.sample(row) for row in self.rows())

    def sample(self, row: Mapping[str, Any]) -> Sample:
        """The sample of a row, its picture in the mode of its file, without ids and log-probs.

        Raises:
            ValueError: the picture cannot be read.
        """
        picture = read_picture(self.folder / row["image"])
        written = replace(parse(row["chain"]), faults=tuple(row["faults"]))
        prompt = Prompt(
            id=row["prompt_id"],
            text=row["prompt"],
            category=row["category"],
            facts=row["facts"],
            number=row["number"],
        )
        return Sample(
            prompt=prompt, chain=written, image=picture, tokens=NO_TOKENS, logprobs=(), seed=row["seed"]
        )


def read_picture(path: Path) -> Image.Image:
    """A picture in the mode of its file: programs differ in whether they make it RGB before they resize it or after.

    Raises:
        ValueError: it cannot be read.
    """
    try:
        with Image.open(path) as image:
            image.load()
            return image
    except UNREADABLE as error:
        shown = os.fsencode(path).decode("utf-8", "backslashreplace")  # a file's name need not be text
        raise ValueError(f"{shown} cannot be read as a picture: {type(error).__name__}") from error
