"""A folder of small pictures as GenEval's generator leaves it, prompts of all six tags, and what a
detector found in the pictures.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

EACH = 4
SIZE = (64, 48)
LEFT, RIGHT, BELOW = [2.0, 4.0, 14.0, 16.0], [46.0, 4.0, 60.0, 16.0], [2.0, 30.0, 14.0, 44.0]
PROMPTS: list[dict[str, Any]] = [
    {"tag": "single_object", "include": [{"class": "bench", "count": 1}], "prompt": "a photo of a bench"},
    {
        "tag": "two_object",
        "include": [{"class": "bench", "count": 1}, {"class": "dog", "count": 1}],
        "prompt": "a photo of a bench and a dog",
    },
    {
        "tag": "counting",
        "include": [{"class": "dog", "count": 2}],
        "exclude": [{"class": "dog", "count": 3}],
        "prompt": "a photo of two dogs",
    },
    {
        "tag": "colors",
        "include": [{"class": "dog", "count": 1, "color": "red"}],
        "prompt": "a photo of a red dog",
    },
    {
        "tag": "position",
        "include": [{"class": "bench", "count": 1}, {"class": "dog", "count": 1, "position": ["left of", 0]}],
        "prompt": "a photo of a dog left of a bench",
    },
    {
        "tag": "position",
        "include": [{"class": "bench", "count": 1}, {"class": "dog", "count": 1, "position": ["above", 0]}],
        "prompt": "a photo of a dog above a bench",
    },
    {
        "tag": "color_attr",
        "include": [
            {"class": "bench", "count": 1, "color": "red"},
            {"class": "dog", "count": 1, "color": "blue"},
        ],
        "prompt": "a photo of a red bench and a blue dog",
    },
]
TAGS = list(dict.fromkeys(one["tag"] for one in PROMPTS))
Things = Sequence[tuple[str, list[float], str]]  # label, box, color
FOUND: list[list[Things]] = [  # of each prompt, of each picture; the first is as asked
    [[("bench", LEFT, "red")], [("dog", LEFT, "red")], [("bench", LEFT, "red"), ("bench", RIGHT, "red")], []],
    [[("bench", LEFT, "red"), ("dog", RIGHT, "red")], [("dog", LEFT, "red")], [("bench", LEFT, "red")], []],
    [
        [("dog", LEFT, "red"), ("dog", RIGHT, "red")],
        [("dog", box, "red") for box in (LEFT, RIGHT, BELOW)],
        [("dog", LEFT, "red")],
        [],
    ],
    [[("dog", LEFT, "red")], [("dog", LEFT, "blue")], [("dog", LEFT, "blue"), ("dog", RIGHT, "red")], []],
    [
        [("dog", LEFT, "red"), ("bench", RIGHT, "red")],
        [("bench", LEFT, "red"), ("dog", RIGHT, "red")],
        [("dog", LEFT, "red")],
        [],
    ],
    [
        [("dog", LEFT, "red"), ("bench", BELOW, "red")],
        [("bench", LEFT, "red"), ("dog", BELOW, "red")],
        [("dog", LEFT, "red")],
        [],
    ],
    [
        [("bench", LEFT, "red"), ("dog", RIGHT, "blue")],
        [("bench", LEFT, "blue"), ("dog", RIGHT, "red")],
        [("bench", LEFT, "red"), ("dog", RIGHT, "red")],
        [],
    ],
]
CORRECT = {  # of the pictures of each prompt, in order
    "single_object": [1.0, 0.0, 1.0, 0.0],
    "two_object": [1.0, 0.0, 0.0, 0.0],
    "counting": [1.0, 0.0, 0.0, 0.0],
    "colors": [1.0, 0.0, 0.0, 0.0],
    "position": [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0],
    "color_attr": [1.0, 0.0, 0.0, 0.0],
}


def write_prompts(folder: Path, published: Path) -> None:
    """The official files' names and forms, one line a prompt; the class names are those of the
    `published` folder.
    """
    folder.mkdir(parents=True)
    (folder / "evaluation_metadata.jsonl").write_text(
        "".join(f"{json.dumps(one)}\n" for one in PROMPTS), encoding="utf-8"
    )
    (folder / "object_names.txt").symlink_to(published / "object_names.txt")


def write_pictures(
    folder: Path,
    prompts: Sequence[Mapping[str, Any]] = PROMPTS,
    *,
    each: int = EACH,
    size: tuple[int, int] = SIZE,
) -> None:
    """`00000/metadata.jsonl` and `00000/samples/00000.png`: noise, of which no two are equal, and
    the grid that the generator makes.
    """
    for place, metadata in enumerate(prompts):
        own = folder / f"{place:05d}"
        (own / "samples").mkdir(parents=True)
        (own / "metadata.jsonl").write_text(json.dumps(metadata), encoding="utf-8")
        (own / "grid.png").write_bytes(b"")
        for number in range(each):
            rng = np.random.default_rng(zlib.crc32(f"{metadata['prompt']} {number}".encode()))
            pixels = rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
            Image.fromarray(pixels).save(own / "samples" / f"{number:05d}.png")


def found(prompt: str, number: int, things: Things, *, colors: bool = True) -> dict[str, Any]:
    """A row of given detections; counting asks for a score above 0.9."""
    row = {
        "prompt": prompt,
        "number": number,
        "frame": list(SIZE),
        "labels": [label for label, _, _ in things],
        "boxes": [box for _, box, _ in things],
        "scores": [0.98 - 0.01 * place for place in range(len(things))],
    }
    return {**row, "colors": [color for _, _, color in things]} if colors else row


def write_found(file: Path, *, colors: bool = True) -> None:
    rows = [
        found(metadata["prompt"], number, things, colors=colors)
        for metadata, pictures in zip(PROMPTS, FOUND, strict=True)
        for number, things in enumerate(pictures)
    ]
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
