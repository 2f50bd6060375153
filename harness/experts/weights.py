"""Tools for weights that are not in transformers' layout: read the tensors of a file, check their names."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from harness.experts.pretrained import first_line

if TYPE_CHECKING:
    from torch import Tensor


def read_tensors(path: Path, under: str, *, bare: bool = False) -> dict[str, Tensor]:
    """The tensors under one name of a training checkpoint. Code in the file is never run.

    Args:
        path: a file written by `torch.save`.
        under: the name of the entry that holds the tensors.
        bare: also accept a file that holds nothing but the tensors.

    Raises:
        ValueError: the file does not hold these tensors. The message names its content.
    """
    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files fail in many ways
        raise ValueError(
            f"{path} cannot be read as PyTorch weights ({first_line(error)}):"
            " is it whole, and the right file?"
        ) from error
    state = None
    if isinstance(content, Mapping):
        state = content.get(under, content if bare else None)
    if not isinstance(state, Mapping) or not all(torch.is_tensor(value) for value in state.values()):
        if isinstance(content, Mapping):
            held = ", ".join(map(str, list(content)[:5]))
        else:
            held = type(content).__name__
        raise ValueError(
            f"{path} holds {held or 'nothing'}, and no `{under}` of tensors: is it the right file?"
        )
    return dict(state)


def check_names(state: Collection[str], wanted: Collection[str], model: str) -> None:
    """Checks that the names are exactly those of `model`.

    Raises:
        ValueError: names are missing or unknown. The message lists a few.
    """
    missing = [name for name in wanted if name not in state]
    unknown = [name for name in state if name not in wanted]
    faults = []
    for names, fault in ((missing, "missing"), (unknown, "unknown")):
        if names:
            faults.append(f"{len(names)} {fault}, such as {', '.join(names[:3])}")
    if faults:
        fitting = len(wanted) - len(missing)
        raise ValueError(f"these are not the weights of {model}: {fitting} names fit; {'; '.join(faults)}")


def count_layers(state: Collection[str], prefix: str) -> int:
    """The number of layers: the largest index after `prefix`, plus one; at least one."""
    pattern = re.compile(re.escape(prefix) + r"(\d+)\.")
    matches = [pattern.match(name) for name in state]
    return 1 + max((int(match[1]) for match in matches if match), default=0)
