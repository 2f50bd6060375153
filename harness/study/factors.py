"""The factors of a study: arms that are run at every level of something, such as the quality of a judge."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from harness.composition.arguments import ARM_NAME, UsageError, check_arm, check_overrides

KEYS: dict[str, tuple[type, str]] = {
    "label": (str, "a text"),
    "arms": (Mapping, "NAME: OVERRIDES, at least one"),
    "levels": (Mapping, "NAME: LEVEL, at least one"),
}
LEVEL_KEYS = ("at", "overrides")
LEVEL_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


def arms_of_factors(factors: Mapping[str, Any]) -> dict[str, list[str]]:
    """Arm -> overrides for every arm of a factor at each of its levels, level by level, named ARM@LEVEL.

    Args:
        factors: `study.factors`. The overrides of a level come after those of the arm and win.

    Raises:
        UsageError: a factor is malformed, or two factors give one name to different arms.
    """
    crossed: dict[str, list[str]] = {}
    for factor, entry in factors.items():
        _check(f"study.factors.{factor}", factor, entry)
        for level, setting in entry["levels"].items():
            for arm, overrides in entry["arms"].items():
                name, both = cell_arm(arm, level), [*overrides, *setting["overrides"]]
                if crossed.setdefault(name, both) != both:
                    raise UsageError(
                        f"study.factors.{factor} gives {name} the overrides {both}, but another factor gives"
                        f" {crossed[name]}: use another name for the level, or the same overrides"
                    )
    return crossed


def facts(factors: Mapping[str, Any]) -> dict[str, Any]:
    """What the report needs of every factor: its label, the places of its levels, and its arms by level."""
    found = {}
    for factor, entry in factors.items():
        arms = {arm: {level: cell_arm(arm, level) for level in entry["levels"]} for arm in entry["arms"]}
        levels = {level: setting["at"] for level, setting in entry["levels"].items()}
        found[factor] = {"label": entry["label"], "arms": arms, "levels": levels}
    return found


def cell_arm(arm: str, level: str) -> str:
    """The name of an arm at a level."""
    return f"{arm}@{level}"


def _check(where: str, factor: Any, entry: Any) -> None:
    if not isinstance(factor, str) or not ARM_NAME.fullmatch(factor):
        raise UsageError(
            f"{where}: the name of a factor starts with a letter or _, followed by letters, digits, _ and -"
        )
    _check_keys(where, entry, tuple(KEYS))
    for name, (kind, wanted) in KEYS.items():
        if not isinstance(entry[name], kind) or not entry[name]:
            raise UsageError(f"{where}.{name} is {entry[name]!r}: write it as {wanted}")
    for arm, overrides in entry["arms"].items():
        check_arm(arm, overrides)
    for level, setting in entry["levels"].items():
        _check_level(f"{where}.levels.{level}", level, setting)


def _check_level(where: str, level: Any, setting: Any) -> None:
    if not isinstance(level, str) or not LEVEL_NAME.fullmatch(level):
        raise UsageError(
            f"{where}: a level is a text of letters, digits, _ . and - (in quotes where YAML reads a number)"
        )
    _check_keys(where, setting, LEVEL_KEYS)
    at, overrides = setting["at"], setting["overrides"]
    if isinstance(at, bool) or not isinstance(at, int | float) or not math.isfinite(at):
        raise UsageError(f"{where}.at is {at!r}: give the number of this level on the axis of the figure")
    if not overrides:
        raise UsageError(f"{where}.overrides is empty: write what the level sets, [KEY=VALUE, ...]")
    check_overrides(f"{where}.overrides", overrides)


def _check_keys(where: str, entry: Any, keys: Sequence[str]) -> None:
    if not isinstance(entry, Mapping) or set(entry) != set(keys):
        given = (", ".join(map(str, entry)) or "nothing") if isinstance(entry, Mapping) else repr(entry)
        raise UsageError(f"{where} has {given}: it needs exactly {', '.join(keys)}")
