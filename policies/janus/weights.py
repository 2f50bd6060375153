"""Readers of weight files, tensor by tensor, so that memory never holds a model twice."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

AGAIN = "it must be made or fetched again"


def read(file: Path) -> Iterator[tuple[str, Tensor]]:
    """Names and tensors of a `.safetensors` or `.bin` file, read from disk on use if the format allows it.

    Raises:
        ValueError: the file is damaged, or a `.bin` holds more than tensors (code in a pickle is never run).
    """
    return _safetensors(file) if file.suffix == ".safetensors" else _pickled(file)


def read_one(file: Path, name: str) -> Tensor:
    """One tensor. The file stays open, and counts as memory, no longer than this tensor is used.

    Raises:
        ValueError: as `read`.
    """
    if file.suffix != ".safetensors":
        return dict(_pickled(file))[name]
    try:
        with safe_open(file, framework="pt") as tensors:
            return tensors.get_tensor(name)
    except SafetensorError as error:
        raise _damaged(file, error) from error


def _safetensors(file: Path) -> Iterator[tuple[str, Tensor]]:
    try:
        with safe_open(file, framework="pt") as tensors:
            names = list(tensors.keys())
    except SafetensorError as error:
        raise _damaged(file, error) from error
    for name in names:
        yield name, read_one(file, name)


def _damaged(file: Path, error: Exception) -> ValueError:
    return ValueError(f"{file} cannot be read as safetensors ({error}): {AGAIN}")


def _pickled(file: Path) -> Iterator[tuple[str, Tensor]]:
    try:
        values = torch.load(file, weights_only=True, map_location="cpu", mmap=zipfile.is_zipfile(file))
    except OSError:
        raise
    except Exception as error:  # a damaged pickle may raise anything
        if "GLOBAL" in str(error):
            raise ValueError(
                f"{file} would run code when opened and is refused: give the same model as safetensors"
            ) from error
        raise ValueError(f"{file} cannot be read as weights ({type(error).__name__}): {AGAIN}") from error
    if not isinstance(values, dict) or not all(isinstance(value, Tensor) for value in values.values()):
        raise ValueError(f"{file} is no plain mapping of names to weights: give what save_pretrained wrote")
    yield from values.items()
