"""What the readers of weights in other layouts than transformers' share: tensors of a file, and names that must be just those."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from harness.experts.pretrained import first_line

if TYPE_CHECKING:
    from torch import Tensor


def read_tensors(path: Path, under: str, *, bare: bool = False) -> dict[str, Tensor]:
    """The tensors of a training checkpoint that stand under a name; code in the file is never run.

    Args:
        path: a file of `torch.save`.
        under: the name.
        bare: the file may as well hold nothing but the tensors.

    Raises:
        ValueError: it is no such file; says what it holds.
    """
    import torch

    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files fail in many ways
        raise ValueError(
            f"{path} cannot be read as PyTorch weights ({first_line(error)}): is it whole, and the right file?"
        ) from error
    state = found.get(under, found if bare else None) if isinstance(found, Mapping) else None
    if not isinstance(state, Mapping) or not all(torch.is_tensor(value) for value in state.values()):
        held = ", ".join(map(str, list(found)[:5])) if isinstance(found, Mapping) else type(found).__name__
        raise ValueError(
            f"{path} holds {held or 'nothing'}, and no `{under}` of tensors: is it the right file?"
        )
    return dict(state)


def check_names(state: Collection[str], wanted: Collection[str], what: str) -> None:
    """That the names are those of `what`, all of them and no other.

    Raises:
        ValueError: some are missing or unknown; names a few.
    """
    missing, foreign = (
        [name for name in wanted if name not in state],
        [name for name in state if name not in wanted],
    )
    if missing or foreign:
        parts = [
            f"{len(found)} {word}, such as {', '.join(found[:3])}"
            for found, word in ((missing, "missing"), (foreign, "unknown"))
            if found
        ]
        raise ValueError(
            f"these are not the weights of {what}: {len(wanted) - len(missing)} names fit; {'; '.join(parts)}"
        )


def count_layers(state: Collection[str], prefix: str) -> int:
    """One more than the largest index after `prefix`, at least one."""
    pattern = re.compile(re.escape(prefix) + r"(\d+)\.")
    return 1 + max((int(found[1]) for name in state if (found := pattern.match(name))), default=0)
