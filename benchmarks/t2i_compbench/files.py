"""The prompt files of T2I-CompBench (`examples/dataset/` of its repository), read as its generator reads them.

One prompt a line: text after a tab is dropped, spaces at the ends stay, CRLF ends a line as LF does, and the last
line may lack its end (`GORS_finetune/inference_eval.py`).
"""

from __future__ import annotations

from pathlib import Path

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


def prompt_file(root: Path, category: str, part: str) -> Path:
    """Where the prompts of a category lie; `part` is train or val."""
    return root / f"{STEMS[category]}_{part}.txt"


def read_prompts(file: Path) -> list[str]:
    """The prompts of a file in its order, repeated ones too: a prompt's place is its number in the official file names.

    Raises:
        ValueError: the file is not UTF-8, or holds no prompt or an empty one.
    """
    prompts = [line.split("\t")[0] for line in _text(file).splitlines()]
    for number, prompt in enumerate(prompts, start=1):
        if not prompt.strip():
            raise ValueError(f"line {number} of {file} holds no prompt: take the line out, or take the file as it was published")
    if not prompts:
        raise ValueError(f"{file} is empty: take the file as it was published")
    return prompts


def read_captions(file: Path) -> list[str]:
    """The captions of a list, one a line, without spaces at their ends and without empty lines.

    Raises:
        ValueError: the file is not UTF-8, or holds no caption.
    """
    captions = [line.strip() for line in _text(file).split("\n") if line.strip()]
    if not captions:
        raise ValueError(f"{file} holds no caption: give a text file with one a line")
    return captions


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not UTF-8 text ({error}): convert it, or take the file as it was published") from None
