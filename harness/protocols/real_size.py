"""What `harness.bench real_size` asks of a policy: models of real size with random weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from harness.protocols.policy import Policy


@dataclass(frozen=True, kw_only=True)
class RealSize:
    """A model of real size, whose checkpoint can be made without the real weights."""

    name: str
    """Such as 1B."""

    write: Callable[[Path], None]
    """Writes a checkpoint of random weights into a folder."""

    disk_bytes: int
    """Size of that checkpoint."""

    words: Sequence[str]
    """Words `KEY=VALUE` that choose the model, but for `policies.checkpoint=`, and settings that fit it."""

    parts: Sequence[Literal["load", "chain", "draw", "grpo", "sft"]]
    """What is measured with it, after it is written."""

    decode: Callable[[Policy], None]
    """Decodes one image of a loaded policy, from ids to pixels."""
