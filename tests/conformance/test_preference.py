"""Vectors of chain preference: votes, agreement of judges, strengths of arms."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.analysis import verdicts
from harness.analysis.bradley_terry import log_strengths
from harness.analysis.votes import PairVotes, tally

VALUES = {"A": 1.0, "B": 0.0, "tie": 0.5, None: None}
OURS = {"win_p": "p"}  # other names of the vectors


@pytest.fixture(scope="module")
def folder(conformance_dir: Path) -> Path:
    folder = conformance_dir / "interventions"
    if not folder.is_dir():
        pytest.skip(f"no vectors of interventions at {folder}")
    return folder


def cases(folder: Path, name: str) -> Iterator[dict[str, Any]]:
    """The cases of every file of a format, of those held out too where they are there."""
    files = sorted(folder.rglob(f"{name}.json"))
    assert files
    for file in files:
        yield from json.loads(file.read_text(encoding="utf-8"))["cases"]


def test_votes_in_both_orders_come_to_the_published_numbers(folder):
    for case in cases(folder, "votes"):
        pairs = [
            PairVotes(
                prompt_id=vote["prompt"],
                number=0,
                x_first=VALUES[vote["x_first"]],
                y_first=VALUES[vote["y_first"]],
            )
            for vote in case["votes"]
        ]
        found = tally(pairs)
        for name, expected in case["expected"].items():
            value = getattr(found, OURS.get(name, name))
            value = len(value) if name == "unscored" else value
            if expected is None:
                assert value is None, (case["id"], name)
            else:
                assert value == pytest.approx(expected, abs=1e-12), (case["id"], name)


def test_agreement_of_two_judges(folder):
    for case in cases(folder, "agreement"):
        table = np.array(case["table"])
        found = {
            "agreement": verdicts.observed(table),
            "kappa": verdicts.kappa(table),
            "ac1": verdicts.ac1(table),
        }
        for name, expected in case["expected"].items():
            if expected is None:
                assert np.isnan(found[name]), (case["id"], name)
            else:
                assert found[name] == pytest.approx(expected, abs=1e-12), (case["id"], name)


def test_strengths_of_arms(folder):
    for case in cases(folder, "bradley_terry"):
        wins = np.array(case["wins"], float)
        assert log_strengths(wins) == pytest.approx(case["log_strength"], abs=1e-8), case["id"]
