"""The files that count in the keys of the shipped studies are known, so that nobody adds one unseen."""

from __future__ import annotations

import difflib
import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

HERE = Path(__file__).parent
MACHINE = r"harness/(launch|report|stages|study|protocols)[./]|harness/(bench|sweep|doctor|command)\.py"
RACES = r"/races?[./]|/race_\w+\.py"
ESTIMATORS = r"policies/.*sizes\.py|harness/study/memory(_items)?\.py"


@pytest.fixture(scope="module")
def pin_sources() -> ModuleType:
    spec = importlib.util.spec_from_file_location("pin_sources", HERE / "pin_sources.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def lines(pin_sources: ModuleType) -> list[str]:
    return pin_sources.lines()


def test_the_files_in_the_keys_are_the_pinned_ones(lines, pin_sources):
    pinned = pin_sources.PINS.read_text(encoding="utf-8").splitlines()
    changes = list(difflib.unified_diff(pinned, lines, "pinned", "now", n=0, lineterm=""))
    assert not changes, "\n".join(
        [
            "other files count in the keys of the shipped studies than before:",
            *changes[2:],
            f"If that is meant, renew the list with `{pin_sources.COMMAND}`",
        ]
    )


def test_every_program_of_the_shipped_studies_is_pinned(lines):
    stages = {stage for line in lines for stage in line.partition(": ")[2].split(", ")}
    assert {stage.partition(" ")[2] for stage in stages} == {
        "checkpoint",
        "grpo",
        "pipeline",
        "samples",
        "scores",
        "sft",
        "tokenizer",
        "tokens",
    }
    assert {stage.partition(" ")[0] for stage in stages if stage.endswith(" scores")} == {
        "geneval",
        "images",
        "judges",
        "paper",
        "pipeline",
        "shapes",
    }


@pytest.mark.parametrize(
    "pattern",
    [
        pytest.param(MACHINE, id="machine"),
        pytest.param(RACES, id="races"),
        pytest.param(ESTIMATORS, id="estimators"),
    ],
)
def test_what_decides_no_number_is_in_no_key(lines, pattern):
    assert [line for line in lines if re.search(pattern, line.partition(": ")[0])] == []


def test_the_patterns_match_files_that_exist():
    root = HERE.parents[1]
    files = [path.relative_to(root).as_posix() for path in root.rglob("*.py") if ".venv" not in path.parts]
    for pattern in (MACHINE, RACES, ESTIMATORS):
        assert any(re.search(pattern, file) for file in files), pattern
