"""The calibrated levels of the simulated experts, which `calibration` measures and writes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

CALIBRATION = Path(__file__).with_name("calibration.json")  # for the names in reports: it decides no number


def agreement_of(part: str, settings: Mapping[str, float]) -> str:
    """The agreement with the exact grades of a part with exactly these settings, in words for a report."""
    level = level_of(part, settings)
    return "not calibrated" if level is None else f"tau {round(level['tau'], 2) + 0.0:.2f}"  # no -0.00


def level_of(part: str, settings: Mapping[str, float]) -> Mapping[str, Any] | None:
    """The level of a part (picture, chain, clip) with exactly these settings; None if it has none."""
    for level in _calibrated().get(part, ()):
        if level["settings"] == settings:
            return level
    return None


@cache
def _calibrated() -> Mapping[str, list[Mapping[str, Any]]]:
    """The levels of each part; none before the first calibration."""
    return json.loads(CALIBRATION.read_text())["levels"] if CALIBRATION.is_file() else {}
