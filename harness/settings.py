"""Checks of settings, shared by the harness and its plugins.

Each check returns the value, or raises ValueError with the setting's full name, its value and what is
allowed. A `hint` stands at the end of the message: `", or null for all"`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

TEMPERATURES = ("text_temperature", "image_temperature")
ROLLOUT = ("guidance", *TEMPERATURES, "max_chain_tokens", "random")
RANDOM = ("per_sample", "upstream")


class Problems:
    """The errors of several checks, so that a user sees them all at once."""

    def __init__(self) -> None:
        self._messages: list[str] = []

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Keeps a ValueError of the block; what follows its place in the block is not run."""
        try:
            yield
        except ValueError as error:
            self._messages.append(str(error))

    def check(self) -> None:
        """Raises ValueError with every message that was noted, one per line, if there is any."""
        if self._messages:
            raise ValueError("\n".join(self._messages))


def whole_number(name: str, value: Any, *, least: int = 1, hint: str = "") -> int:
    """`value` if it is a whole number from `least`.

    Raises:
        ValueError: it is not.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name}={value!r}: give a whole number from {least}{hint}")
    return value


def number(
    name: str,
    value: Any,
    *,
    least: float = -math.inf,
    above: float = -math.inf,
    most: float = math.inf,
    hint: str = "",
) -> float:
    """`value` if it is a finite number from `least` or above `above`, and at most `most`.

    Raises:
        ValueError: it is not.
    """
    if not _is_finite(value) or not (least <= value <= most and value > above):
        raise ValueError(f"{name}={value!r}: give a number{_bounds(least, above, most)}{hint}")
    return value


def share(name: str, value: Any, *, whole: bool = True) -> float:
    """`value` if it is a number from 0 to 1; 1 itself only if `whole`.

    Raises:
        ValueError: it is not.
    """
    if not _is_finite(value) or not 0 <= value <= 1 or (value == 1 and not whole):
        raise ValueError(f"{name}={value!r}: give a share from 0 to {'1' if whole else 'below 1'}")
    return value


def choice(name: str, value: Any, allowed: Sequence[str], *, hint: str = "") -> str:
    """`value` if it is one of the allowed texts.

    Raises:
        ValueError: it is not.
    """
    if value not in allowed:
        named = " and ".join(allowed) if len(allowed) == 2 else ", ".join(allowed)
        raise ValueError(f"{name}={value!r}: allowed are {named}{hint}")
    return value


def flag(name: str, value: Any) -> bool:
    """`value` if it is true or false.

    Raises:
        ValueError: it is neither.
    """
    if not isinstance(value, bool):
        raise ValueError(f"{name}={value!r}: give true or false")
    return value


def text(name: str, value: Any, *, hint: str = "") -> str:
    """`value` if it is a text with more than white space.

    Raises:
        ValueError: it is not.
    """
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{name}={value!r}: give a text{hint}")
    return value


def check_rollout(section: str, rollout: Mapping[str, Any]) -> None:
    """Checks the settings of a `Sampling`; `section` is `rollout` or `evaluation.rollout`.

    Raises:
        ValueError: a setting is unknown, missing or not allowed.
    """
    if set(rollout) != set(ROLLOUT):
        raise ValueError(f"{section} has {', '.join(rollout) or 'nothing'}: it takes {', '.join(ROLLOUT)}")
    number(f"{section}.guidance", rollout["guidance"])
    for name in TEMPERATURES:
        number(f"{section}.{name}", rollout[name], least=0, hint=" (greedy)")
    whole_number(f"{section}.max_chain_tokens", rollout["max_chain_tokens"], least=0, hint=" (no chain)")
    choice(f"{section}.random", rollout["random"], RANDOM)


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _bounds(least: float, above: float, most: float) -> str:
    if above > -math.inf:
        return f" above {above:g}" + (f", at most {most:g}" if most < math.inf else "")
    if least > -math.inf:
        return f" from {least:g}" + (f" to {most:g}" if most < math.inf else "")
    return ""
