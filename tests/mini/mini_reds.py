"""A benchmark whose score is how red a picture is, and what a benchmark or a policy may offer
beyond drawing and scoring.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from mini_world import MiniBenchmark
from PIL import Image

from harness.protocols import Benchmark, ImageSource
from harness.samples import SampleFolder
from harness.types import Chain, Metric, Prompt, Sample, Score, Stage, Tokens


class Reds(Benchmark):
    """Mirrored, a picture of prompt a scores `drop` less; other prompts have no side.

    What was scored stands in `seen`. At the image `fail_at` (as `b:40`) the model is gone.
    """

    categories = ("color",)
    metrics: ClassVar[dict[str, Metric]] = {"color": Metric(name="redness", labels=("mode=plain",))}
    seen: ClassVar[list[str]] = []

    def __init__(self, *, fail_at: str | None = None, drop: float = 0.1) -> None:
        self._fail_at, self._drop, self._loaded = fail_at, drop, False

    def prompts(self, split: str) -> list[Prompt]:
        return [Prompt(id="a", text="a", category="color")]

    def load(self) -> None:
        self._loaded = True

    def score(self, samples: Sequence[Sample]) -> list[Score]:
        assert self._loaded and 0 < len(samples) <= 64
        names = [f"{one.prompt.id}:{one.prompt.number}" for one in samples]
        if self._fail_at in names:
            raise LookupError("the model is gone")
        self.seen.extend(names)
        return [Score(value=_red(one)) for one in samples]

    def mirrored(self, samples: Sequence[Sample]) -> list[Score | None]:
        return [
            Score(value=_red(one) - self._drop) if one.prompt.id.startswith("a") else None for one in samples
        ]

    def write_results(self, folder: Path, rows: Sequence[dict[str, Any]]) -> None:
        folder.mkdir(exist_ok=True)
        (folder / "answers.json").write_text(json.dumps([row["value"] for row in rows]))


def _red(sample: Sample) -> float:
    return sample.image.getpixel((0, 0))[0] / 255  # type: ignore[index]


def write_samples(folder: Path, *, each: int, names: Sequence[str] = "abc") -> Path:
    """A folder of samples: so many of each prompt, redder and redder."""
    drawn = [
        Sample(
            prompt=Prompt(id=name, text=name, category="color", number=number),
            chain=Chain(text="", objects=(), bare_text=""),
            image=Image.new("RGB", (4, 4), (100 + number % 100, 0, 0)),
            tokens=Tokens(prompt=(), chain=(), image=()),
            logprobs=(),
            seed=number,
        )
        for name in names
        for number in range(each)
    ]
    SampleFolder(folder).append(0, drawn)
    return folder


class Bare:
    """A component without a base class."""


class Protocoled(MiniBenchmark):
    """One whose protocol says how many images and which seeds."""

    images_per_prompt = 3
    first_seed = 42


class Scoring(MiniBenchmark):
    """One with settings that decide scores alone."""

    def __init__(self, *, scoring: Any = None, **given: Any) -> None:
        super().__init__(**given)


class Album(ImageSource):
    """A policy of pictures that exist already."""

    def samples(self, config: dict[str, Any]) -> Stage:
        assert "check" not in config["evaluation"]
        settings = {
            "benchmark": config["benchmarks"],
            "images_per_prompt": config["evaluation"]["images_per_prompt"],
        }
        return Stage(name="samples", program="json.dumps", settings=settings)
