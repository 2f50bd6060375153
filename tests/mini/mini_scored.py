"""A folder of 40 small pictures in all categories of T2I-CompBench, four of each prompt, and what
detectors found in them.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

EACH = 4
SIZE = (64, 48)
FRAME = (480, 360)
PROMPTS = {
    "color": ["a red book and a yellow vase"],
    "shape": ["a round plate and a square box"],
    "texture": ["a wooden chair and a metallic spoon"],
    "spatial": ["a dog on the left of a cat"],
    "3d_spatial": ["a dog in front of a cat"],
    "numeracy": ["two dogs and a cat"],
    "non_spatial": ["A woman is reading a book on a bench."],
    "complex": [
        "The red apple was on the left of the blue vase.",
        "The man walked the old dog.",
        "The tall boy sat near the small dog and sang.",
    ],
}
NAMES = {"spatial": "2D-spatial", "3d_spatial": "3D-spatial", "non_spatial": "non-spatial"}
CATEGORIES = [NAMES.get(stem, stem) for stem in PROMPTS]


def write_prompts(folder: Path) -> None:
    """The official files' names; each train file holds another prompt, so that there are two splits."""
    folder.mkdir(parents=True)
    for stem, texts in PROMPTS.items():
        (folder / f"{stem}_val.txt").write_text("\n".join(texts), encoding="utf-8")
        (folder / f"{stem}_train.txt").write_text(f"another {stem} prompt\n", encoding="utf-8")
    spatial, action, _ = PROMPTS["complex"]
    (folder / "complex_val_spatial.txt").write_text(spatial, encoding="utf-8")
    (folder / "complex_val_action.txt").write_text(action, encoding="utf-8")
    (folder / "new_objects.txt").write_text("dog - dogs\ncat - cats\n", encoding="utf-8")


def write_pictures(folder: Path) -> None:
    """`CATEGORY/samples/PROMPT_000000.png`: noise, of which no two are equal."""
    for category, texts in zip(CATEGORIES, PROMPTS.values(), strict=True):
        (folder / category / "samples").mkdir(parents=True)
        for number, text in enumerate(text for text in texts for _ in range(EACH)):
            rng = np.random.default_rng(zlib.crc32(f"{text} {number}".encode()))
            pixels = rng.integers(0, 256, (SIZE[1], SIZE[0], 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / category / "samples" / f"{text}_{number:06d}.png")


def found(category: str, prompt: str, number: int, things: list[tuple[str, list[float]]]) -> dict[str, Any]:
    return {
        "category": category,
        "prompt": prompt,
        "number": number,
        "frame": list(FRAME),
        "labels": [label for label, _ in things],
        "boxes": [box for _, box in things],
        "scores": [0.9 - 0.125 * place for place in range(len(things))],
    }


LEFT, RIGHT, FAR_LEFT = [20.0, 100.0, 120.0, 200.0], [320.0, 110.0, 440.0, 210.0], [20.0, 220.0, 120.0, 320.0]


def write_found(folder: Path) -> None:
    """`rs200.jsonl`, `r50.jsonl` and `depth/`: picture 0 is as asked, 1 the other way round, in 2 a
    thing lacks, in 3 all.
    """
    folder.mkdir(parents=True)

    def rows(category: str, prompt: str, first: str, second: str) -> list[dict[str, Any]]:
        pictures = ([(first, LEFT), (second, RIGHT)], [(first, RIGHT), (second, LEFT)], [(first, LEFT)], [])
        return [found(category, prompt, number, things) for number, things in enumerate(pictures)]

    spatial, _, both = PROMPTS["complex"]
    rs200 = [
        *rows("2D-spatial", PROMPTS["spatial"][0], "dog", "cat"),
        *rows("complex", spatial, "apple", "vase"),
        *rows("complex", both, "person", "dog"),
    ]
    front, two = PROMPTS["3d_spatial"][0], PROMPTS["numeracy"][0]
    overlapping = [
        [("dog", [100.0, 50.0, 200.0, 200.0]), ("cat", [150.0, 50.0, 260.0, 200.0])],
        [("dog", LEFT)],
        [("cat", LEFT)],
        [],
    ]
    counted = [
        [("dog", LEFT), ("dog", FAR_LEFT), ("cat", RIGHT)],
        [("dog", LEFT), ("cat", RIGHT)],
        [("dog", LEFT), ("dog", FAR_LEFT)],
        [],
    ]
    r50 = [found("3D-spatial", front, number, things) for number, things in enumerate(overlapping)]
    r50 += [found("numeracy", two, number, things) for number, things in enumerate(counted)]
    for name, lines in (("rs200", rs200), ("r50", r50)):
        (folder / f"{name}.jsonl").write_text(
            "".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8"
        )
    (folder / "depth").mkdir()
    falling = np.linspace(255, 0, SIZE[1]).astype(np.uint8)[:, None].repeat(SIZE[0], 1)
    for number in range(EACH):
        Image.fromarray(falling).save(folder / "depth" / f"{front}_{number:06d}.png")
