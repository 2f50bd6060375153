"""Checks of the settings that every trainer has: steps, optimizer, adapters."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from harness.settings import number, whole_number

LORA = ("rank", "alpha", "targets")


def check_optimizer(section: str, settings: Mapping[str, Any], *, steps_from: int = 1) -> None:
    """Raises ValueError for a wrong setting that all trainers have."""
    whole_number(f"{section}.steps", settings["steps"], least=steps_from)
    whole_number(f"{section}.checkpoint_every", settings["checkpoint_every"])
    whole_number(f"{section}.warmup_steps", settings["warmup_steps"], least=0)
    for name in ("learning_rate", "max_grad_norm"):
        number(f"{section}.{name}", settings[name], above=0)
    number(f"{section}.weight_decay", settings["weight_decay"], least=0)


def check_lora(section: str, adapters: Any) -> None:
    """Raises ValueError unless the adapters are null or have rank, alpha and targets."""
    if adapters is None:
        return
    if not isinstance(adapters, Mapping) or set(adapters) != set(LORA):
        raise ValueError(f"{section}.lora={adapters!r}: give null for full weights, or {', '.join(LORA)}")
    for name in ("rank", "alpha"):
        whole_number(f"{section}.lora.{name}", adapters[name])
    try:
        re.compile(adapters["targets"])
    except (re.error, TypeError) as error:
        raise ValueError(
            f"{section}.lora.targets={adapters['targets']!r}: give a regular expression for names of layers"
            f" ({error})"
        ) from None
