"""Reading the vectors of GRPO variants, and comparing numbers with them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

Case = dict[str, Any]
Tolerance = dict[str, float]


def cases(conformance_dir: Path, form: str) -> Iterator[tuple[Case, Case]]:
    """Every case of the files of a format, wherever they lie under `grpo/`, each with its whole file."""
    found = [whole for whole in _files(conformance_dir) if whole["format"] == form]
    if not found:
        pytest.skip(f"no vectors of format {form} under {conformance_dir / 'grpo'}")
    for whole in found:
        assert whole["cases"]
        for case in whole["cases"]:
            yield case, whole


def formats(conformance_dir: Path) -> set[str]:
    """The formats of all files under `grpo/`."""
    return {whole["format"] for whole in _files(conformance_dir)}


def _files(conformance_dir: Path) -> list[Case]:
    files = sorted((conformance_dir / "grpo").rglob("*.json"))
    return [json.loads(file.read_text(encoding="utf-8")) for file in files]


def program_of(case: Case, whole: Case) -> str:
    """The program that made a case; a file of two programs names it in each case."""
    return case.get("program", whole["program"]["name"])


def agree(found: Any, expected: Any, tolerance: Tolerance, kind: str = "", place: str = "") -> None:
    """Raise AssertionError unless nested lists have the same shape and numbers within the tolerance.

    `kind` names an exception in the file's tolerance, which is then both absolute and relative.
    """
    if isinstance(expected, list):
        assert len(found) == len(expected), f"{place}: {len(found)} values instead of {len(expected)}"
        for index, (one, other) in enumerate(zip(found, expected, strict=True)):
            agree(one, other, tolerance, kind, f"{place}[{index}]")
        return
    absolute = tolerance.get(kind, tolerance["absolute"])
    relative = tolerance.get(kind, tolerance.get("relative", 0.0))
    close = math.isclose(found, expected, rel_tol=0, abs_tol=absolute + relative * abs(expected))
    assert close, f"{place}: {found!r} instead of {expected!r}"
