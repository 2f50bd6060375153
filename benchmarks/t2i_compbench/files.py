"""The files of T2I-CompBench (`examples/dataset/` of its repository): prompts and what the scorers
read.

A file holds one prompt per line. Text after a tab is dropped, spaces at the ends stay, lines may end in
CRLF, and the last line may lack its end (`GORS_finetune/inference_eval.py`).

color_val.txt has two versions: on 2025-09-03 five lines that repeated others were replaced.
"""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path

from harness.files import read_user_text

STEMS = {
    "color": "color",
    "shape": "shape",
    "texture": "texture",
    "2D-spatial": "spatial",
    "3D-spatial": "3d_spatial",
    "numeracy": "numeracy",
    "non-spatial": "non_spatial",
    "complex": "complex",
}
OTHERS = {"spatial_owlv2": "spatial", "spatial_gdino": "spatial"}  # categories of ours on official prompts
DATA_FILES = ("sources.json",)  # count in the keys of stages
OLD_COLOR_VAL = "before_2025-09-03/color_val.txt"
VERSIONS = {"2025-09-03": "color_val.txt", "2023": OLD_COLOR_VAL}  # of color_val.txt -> name in sources.json
PUBLISHED = "Or take the file as it was published"
GET = (
    "fetch it with `python -m harness.fetch t2i_compbench`, or set T2I_COMPBENCH_DIR to "
    "examples/dataset of a checkout"
)


@cache
def sums() -> dict[str, str]:
    """Name within the folder -> SHA-256, of the files as they were published."""
    return json.loads(Path(__file__).with_name("sources.json").read_text(encoding="utf-8"))


def prompt_file(root: Path, category: str, part: str) -> Path:
    """Where the prompts of a category lie; `part` is train or val."""
    return root / f"{(STEMS | OTHERS)[category]}_{part}.txt"


def read_prompts(file: Path) -> list[str]:
    """The prompts of a file in its order, repeated ones too: a prompt's place is its number in the
    official file names.

    Raises:
        ValueError: the file is not UTF-8, or holds no prompt or an empty one.
    """
    prompts = [line.split("\t")[0] for line in read_user_text(file, remedy=PUBLISHED).splitlines()]
    for number, prompt in enumerate(prompts, start=1):
        if not prompt.strip():
            raise ValueError(
                f"line {number} of {file} holds no prompt: take the line out, or take the file as it "
                "was published"
            )
    if not prompts:
        raise ValueError(f"{file} is empty: take the file as it was published")
    return prompts


def color_val_file(root: Path, version: str | int | None) -> Path:
    """The val prompts of color: in the version of that name, wherever in the folder it lies, or as they
    lie there for None.

    Raises:
        ValueError: there is no such version, or the folder does not hold it.
    """
    if version is None:
        return root / VERSIONS["2025-09-03"]
    wanted = str(version)  # a command line's 2023 is a number
    if wanted not in VERSIONS:
        raise ValueError(
            f"benchmarks.color_val={version}: give {', '.join(VERSIONS)}, or null for the file as it "
            "lies there"
        )
    places = [root / name for name in VERSIONS.values()]
    for file in places:
        if file.is_file() and color_val_version(file) == wanted:
            return file
    there = [f"{file} is {color_val_version(file)}" for file in places if file.is_file()] or [
        f"{root} holds none"
    ]
    raise ValueError(f"benchmarks.color_val={version} is not here, {' and '.join(there)}: {GET}")


def color_val_version(file: Path) -> str:
    """Which color_val.txt a file is, by its SHA-256: a name of `VERSIONS`, or "unknown, sha256
    1234abcd...".
    """
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    known = {sums()[name]: version for version, name in VERSIONS.items()}
    return known.get(digest, f"unknown, sha256 {digest[:8]}...")


def read_routing(root: Path) -> tuple[list[str], list[str]]:
    """The complex val prompts that 3-in-1 scores as spatial, and those that it scores as action.

    Raises:
        ValueError: a file is missing or cannot be read.
    """
    spatial, action = (
        read_prompts(_there(root / f"complex_val_{name}.txt")) for name in ("spatial", "action")
    )
    return spatial, action


def objects_file(root: Path) -> Path:
    """The list of nouns with their plurals that numeracy counts by.

    Raises:
        ValueError: it is missing.
    """
    return _there(root / "new_objects.txt")


def read_captions(file: Path) -> list[str]:
    """The captions of a list, one a line, without spaces at their ends and without empty lines.

    Raises:
        ValueError: the file is not UTF-8, or holds no caption.
    """
    captions = [line.strip() for line in read_user_text(file).split("\n") if line.strip()]
    if not captions:
        raise ValueError(f"{file} holds no caption: give a text file with one a line")
    return captions


def _there(file: Path) -> Path:
    if not file.is_file():
        raise ValueError(f"{file.parent} lacks {file.name}: {GET}")
    return file
