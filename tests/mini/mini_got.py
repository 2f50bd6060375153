"""Small GoT data on disk: annotation of every kind, pictures in every place, and what may be wrong
with them.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from PIL import Image

from harness.protocols import Benchmark, Policy, PolicyRecipe
from harness.types import Prompt, Record, Sample, Score, Stage, Tokens

COLUMNS = {"prompt": "caption", "chain": "got", "image": "file"}
FORMS = (
    "A red vase (100,200),(600,700) on a table.",
    "A <|obj_start|>red vase<|obj_end|> <|box_start|>(100,200),(600,700)<|box_end|>.",
)


def record(number: int, **changes: Any) -> dict[str, Any]:
    """The columns of a good record, but for the changes; None leaves one out."""
    whole = {
        "caption": f"a red vase, number {number}",
        "got": FORMS[number % 2],
        "file": f"pictures/{number}.png",
        "more": [1],
        **changes,
    }
    return {name: value for name, value in whole.items() if value is not None}


def picture(number: int) -> bytes:
    """A square of one color for each number."""
    stream = io.BytesIO()
    Image.new("RGB", (16, 16), (number * 37 % 256, number * 11 % 256, 90)).save(stream, "PNG")
    return stream.getvalue()


def write_lines(file: Path, records: Sequence[dict[str, Any] | str]) -> Path:
    file.write_text("".join((one if isinstance(one, str) else json.dumps(one)) + "\n" for one in records))
    return file


def write_pictures(folder: Path, count: int) -> Path:
    (folder / "pictures").mkdir(parents=True)
    for number in range(count):
        (folder / "pictures" / f"{number}.png").write_bytes(picture(number))
    return folder


def write_tar(file: Path, numbers: Sequence[int]) -> Path:
    with tarfile.open(file, "w") as tar:
        for number in numbers:
            info = tarfile.TarInfo(f"pictures/{number}.png")
            info.size = len(picture(number))
            tar.addfile(info, io.BytesIO(picture(number)))
    return file


def source(shards: Any, images: Any = None) -> dict[str, Any]:
    return {
        "shards": shards if shards is None or isinstance(shards, list) else str(shards),
        "images": images and str(images),
        "columns": COLUMNS,
    }


def settings(sources: dict[str, dict[str, Any]], **changes: Any) -> dict[str, Any]:
    return {
        "_target_": "harness.data.got.GotData",
        "sources": sources,
        "fit": "crop",
        "max_bad_share": 0.0,
        **changes,
    }


class PixelRecipe(PolicyRecipe, Policy):
    """A policy without weights, whose image ids are the red of the pixels; recipe and policy in one."""

    image_size = (4, 4)
    encoding: ClassVar = {"pack": None}

    def __init__(self, *, pack: int | None = None) -> None:
        self.pack = pack

    def load(self, folder: Path, *, trainable: bool = False) -> PixelRecipe:
        return self

    def start(self, config: Any) -> Stage:
        raise AssertionError("it encodes and nothing else")

    def rollout(self, prompts: Any, seeds: Any, sampling: Any) -> list[Sample]:
        raise AssertionError("it encodes and nothing else")

    def encode(self, records: Sequence[Record]) -> list[Tokens]:
        return [
            Tokens(
                prompt=tuple(one.prompt.text.encode()),
                chain=tuple(one.chain.encode()),
                image=tuple(one.image.getchannel("R").tobytes()),
            )
            for one in records
        ]


PIXELS = {"_target_": "mini_got.PixelRecipe"}


class Filed(Benchmark):
    """A benchmark that reads a file, and nothing more."""

    external = ("prompts.txt",)

    def prompts(self, split: str) -> list[Prompt]:
        return []

    def score(self, samples: Sequence[Sample]) -> list[Score]:
        return []
