"""The rows of `samples.jsonl` and `scores.jsonl`, and the folder of samples.

`SampleRow` and `ScoreRow` are the only readers and writers of these rows. A folder of samples holds
`samples.jsonl` with one row per sample, and images under `images/`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from PIL import Image

from harness.chain import parse
from harness.files import read_rows, unfinished, write_rows
from harness.paths import user_path
from harness.types import Chain, Prompt, Sample, Score, Tokens

INDEX = "samples.jsonl"
NO_TOKENS = Tokens(prompt=(), chain=(), image=())
# The errors of Pillow for damaged files.
UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)


@dataclass(frozen=True, kw_only=True)
class DrawnFrom:
    """What an intervention made an image from.

    Attributes:
        intervention: its name.
        applied: whether it was applied; `reason` says why not.
        own_chain: the text of the chain that the policy wrote for the image.
        caption: the text that stood in place of the prompt's; None where that stayed.
        sampled_ids: whether the ids were sampled, not encoded from text.
        own_ids: whether the ids are those that the policy wrote for the image.
        nll: the sum of -log p of the chain's ids, in nats, under the sampling temperature; None where the
            caption was replaced, the chain is begin-of-image alone, or the temperature is 0. `nll_ids` is
            their number.
        details: what changed, such as `boxes_before` and `boxes_after`.
    """

    intervention: str
    applied: bool
    reason: str | None
    own_chain: str
    caption: str | None
    sampled_ids: bool
    own_ids: bool
    nll: float | None
    nll_ids: int
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class SampleRow:
    """A row of `samples.jsonl`.

    `image` is a path within the folder, or an absolute path of an image elsewhere. `seed` is None where it
    is not known. `drawn_from` says what an intervention made the image from, and is None without one.
    Fields with a default may be missing from the rows of users.
    """

    index: int = 0
    prompt_id: str = ""
    number: int = 0
    prompt: str
    category: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None
    chain: str
    faults: tuple[str, ...] = ()
    truncated: bool = False
    image: str
    drawn_from: DrawnFrom | None = None

    def to_json(self) -> dict[str, Any]:
        row = {
            "index": self.index,
            "prompt_id": self.prompt_id,
            "number": self.number,
            "prompt": self.prompt,
            "category": self.category,
            "facts": dict(self.facts),
            "seed": self.seed,
            "chain": self.chain,
            "faults": list(self.faults),
            "truncated": self.truncated,
            "image": self.image,
        }
        return row if self.drawn_from is None else {**row, "drawn_from": asdict(self.drawn_from)}

    def to_prompt(self) -> Prompt:
        """Return the prompt of the sample."""
        return Prompt(
            id=self.prompt_id, text=self.prompt, category=self.category, facts=self.facts, number=self.number
        )

    def to_chain(self) -> Chain:
        """Return the chain of the sample."""
        return replace(parse(self.chain), faults=self.faults)

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> SampleRow:
        """Return the row of a complete JSON object. Raises KeyError where a field is missing."""
        drawn_from = row.get("drawn_from")
        return cls(
            index=row["index"],
            prompt_id=row["prompt_id"],
            number=row["number"],
            prompt=row["prompt"],
            category=row["category"],
            facts=row["facts"],
            seed=row["seed"],
            chain=row["chain"],
            faults=tuple(row["faults"]),
            truncated=row["truncated"],
            image=row["image"],
            drawn_from=None if drawn_from is None else DrawnFrom(**drawn_from),
        )

    @classmethod
    def from_user_json(cls, row: Mapping[str, Any]) -> SampleRow:
        """Return the row of a user's JSON object, which needs `prompt`, `image` and `chain` only.

        null is as missing, and a chain of null is none.

        Raises:
            KeyError: one of them is missing.
            ValueError: `prompt`, `image` or `chain` is no text, `image` can be no path, or `number` or `seed`
                is no whole number.
        """
        texts = {name: row[name] for name in ("prompt", "image", "chain")}
        if texts["chain"] is None:
            texts["chain"] = ""
        for name, value in texts.items():
            if not isinstance(value, str):
                raise ValueError(f"its {name} is {_shown(value)}, which is no text")
        number, seed = row.get("number"), row.get("seed")
        number = int(number or 0) if number is None or isinstance(number, str) else number
        for name, value in (("number", number), ("seed", 0 if seed is None else seed)):
            if not isinstance(value, int) or isinstance(value, bool):
                raise ValueError(f"its {name} is {_shown(value)}, which is no whole number")
        texts["image"] = str(user_path(texts["image"]))
        return cls(prompt_id=str(row.get("prompt_id") or ""), number=number, seed=seed, **texts)


def _shown(value: Any) -> str:
    """A value in a message: null as users write it, others shortened."""
    return "null" if value is None else repr(value)[:40]


@dataclass(frozen=True, kw_only=True)
class ScoreRow:
    """A row of `scores.jsonl`: the score of the sample `index`.

    `value` is None for an unscored sample, and `unscored` says why. `mirrored` is the value of the mirrored
    image. The row holds it only with `mirror_checked`, and it is None where the prompt says no side.
    """

    index: int
    prompt_id: str
    category: str
    number: int
    seed: int | None
    value: float | None
    unscored: str | None
    evidence: Mapping[str, Any] = field(default_factory=dict)
    mirrored: float | None = None
    mirror_checked: bool = False

    def to_json(self) -> dict[str, Any]:
        row = {
            "index": self.index,
            "prompt_id": self.prompt_id,
            "category": self.category,
            "number": self.number,
            "seed": self.seed,
            "value": self.value,
            "unscored": self.unscored,
            "evidence": dict(self.evidence),
        }
        return {**row, "mirrored": self.mirrored} if self.mirror_checked else row

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> ScoreRow:
        """Return the row of a JSON object. Raises KeyError where a field is missing; ignores other fields."""
        return cls(
            index=row["index"],
            prompt_id=row["prompt_id"],
            category=row["category"],
            number=row["number"],
            seed=row["seed"],
            value=row["value"],
            unscored=row["unscored"],
            evidence=row["evidence"],
            mirrored=row.get("mirrored"),
            mirror_checked="mirrored" in row,
        )


@dataclass(frozen=True)
class SampleFolder:
    """Samples on disk, appended in batches: rows after their images, so that a kill leaves whole samples."""

    folder: Path

    @property
    def index(self) -> Path:
        return self.folder / INDEX

    def rows(self) -> list[SampleRow]:
        """Return all complete rows. A line cut off by a kill is left out."""
        return [SampleRow.from_json(row) for row in read_rows(self.index)]

    def unfinished(self, count: int, size: int) -> range:
        """As `harness.files.unfinished`, for the rows of `count` samples in batches of `size`."""
        return unfinished(self.index, count, size)

    def keep(self, count: int) -> None:
        """Drop every row after the first `count`, and any line that was cut off."""
        write_rows(self.index, read_rows(self.index)[:count])

    def append(
        self, start: int, samples: Sequence[Sample], drawn_from: Sequence[DrawnFrom | None] | None = None
    ) -> None:
        """Write the images of `samples`, then their rows, with indices from `start`.

        `drawn_from` says for each sample what an intervention made it from; None: there was no intervention.
        """
        (self.folder / "images").mkdir(parents=True, exist_ok=True)
        rows = []
        for index, (sample, origin) in enumerate(
            zip(samples, drawn_from or [None] * len(samples), strict=True), start
        ):
            image = f"images/{index:05d}.png"
            sample.image.save(self.folder / image)
            rows.append(replace(sample_row(sample, index, image), drawn_from=origin).to_json())
        write_rows(self.index, rows, "a")

    def read(self) -> Iterator[Sample]:
        """Yield the samples, as `sample` returns them."""
        return (self.sample(row) for row in self.rows())

    def sample(self, row: SampleRow) -> Sample:
        """Return the sample of a row, its image in the mode of its file, without token ids and log-probs.

        Raises:
            ValueError: the image cannot be read.
        """
        return Sample(
            prompt=row.to_prompt(),
            chain=row.to_chain(),
            image=read_image(self.folder / row.image),
            tokens=NO_TOKENS,
            logprobs=(),
            seed=row.seed,
        )


def sample_row(sample: Sample, index: int, image: str) -> SampleRow:
    """Return the row of a sample whose image is the file `image`."""
    return SampleRow(
        index=index,
        prompt_id=sample.prompt.id,
        number=sample.prompt.number,
        prompt=sample.prompt.text,
        category=sample.prompt.category,
        facts=sample.prompt.facts,
        seed=sample.seed,
        chain=sample.chain.text,
        faults=tuple(sample.chain.faults),
        truncated=sample.tokens.forced_end,
        image=image,
    )


def score_row(
    sample: SampleRow, score: Score, mirrored: Score | None = None, *, mirror_checked: bool = False
) -> ScoreRow:
    """Return the row of a sample's score, and of the score of its mirrored image where that was checked."""
    return ScoreRow(
        index=sample.index,
        prompt_id=sample.prompt_id,
        category=sample.category,
        number=sample.number,
        seed=sample.seed,
        value=score.value,
        unscored=score.unscored,
        evidence=score.evidence,
        mirrored=mirrored.value if mirrored else None,
        mirror_checked=mirror_checked,
    )


def read_image(path: Path) -> Image.Image:
    """Return an image in the mode of its file: programs differ in whether they convert it before they
    resize it.

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
