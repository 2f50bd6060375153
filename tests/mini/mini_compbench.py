"""Prompt files and pictures named as T2I-CompBench names them, of our own making, and a policy to
plan with.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from PIL import Image

from harness.protocols import PolicyRecipe
from harness.types import Stage

STEMS = ("color", "shape", "texture", "spatial", "3d_spatial", "numeracy", "non_spatial", "complex")


def write_prompts(folder: Path, *, val: int = 3, train: int = 12) -> None:
    """`val` and `train` prompts of every category, CRLF and no last line end, as most official files."""
    folder.mkdir(parents=True, exist_ok=True)
    for stem in STEMS:
        for part, count in (("val", val), ("train", train)):
            lines = (f"{part} {stem.replace('_', ' ')} number {number}" for number in range(count))
            (folder / f"{stem}_{part}.txt").write_bytes("\r\n".join(lines).encode())
    for route in ("spatial", "action"):
        (folder / f"complex_val_{route}.txt").write_text("of this route there is none\n", encoding="utf-8")
    (folder / "new_objects.txt").write_text("number - numbers\n", encoding="utf-8")


def write_pictures(folder: Path, prompts: Iterable[str], *, each: int, first: int = 0) -> None:
    """`each` pictures of every prompt below `folder/samples`, numbered on from `first`, which is
    their red; no two are equal.
    """
    (folder / "samples").mkdir(parents=True, exist_ok=True)
    for number, text in enumerate((text for text in prompts for _ in range(each)), start=first):
        hue = zlib.crc32(text.encode())
        Image.new("RGB", (32, 32), (number % 256, hue % 256, hue // 256 % 256)).save(
            folder / "samples" / f"{text}_{number:06d}.png"
        )


class Nothing(PolicyRecipe):
    """A policy recipe that can be planned with."""

    trainable = False

    def start(self, config: Any) -> Stage:
        return Stage(name="start", program="mini_compbench.write_prompts", settings={})

    def load(self, folder: Path, *, trainable: bool = False) -> Any:
        raise AssertionError("nothing is drawn with it")
