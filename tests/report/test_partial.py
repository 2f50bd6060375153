"""A report of a study with cells still to come says so everywhere, and decides no claim."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.report.build import write_report

CLAIMS = {
    "full_is_better": {
        "text": "The full reward is better than the baseline",
        "better": "full",
        "than": "baseline",
        "categories": "all",
    },
    "pi_is_better": {
        "text": "PI alone is better than the baseline",
        "better": "w_PI",
        "than": "baseline",
        "categories": ["color"],
    },
}
RUNNING = {("full", 0): ("running", None), ("full", 1): ("planned", None)}


@pytest.fixture
def report(make_study: Callable[..., Any], tmp_path: Path) -> Callable[..., Path]:
    """`report(states)` writes the report of a study of three arms in these states."""

    def write(states: Any, **changes: Any) -> Path:
        root = tmp_path / str(len(list(tmp_path.iterdir())))
        study = make_study(root, claims=CLAIMS, states=states, prompts=8, **changes)
        return write_report(study.write(), root / "reports")

    return write


def pages(folder: Path) -> tuple[str, str]:
    text, page = ((folder / name).read_text(encoding="utf-8") for name in ("report.md", "index.html"))
    return text, page


def test_the_top_says_which_arms_are_in_and_which_are_to_come(report: Callable[..., Path]) -> None:
    states = {
        ("w_PI", 0): ("failed", "boom"),
        ("w_PI", 1): ("failed", "boom"),
        ("full", 1): ("running", None),
    }
    text, page = pages(report(states))
    head = text.partition("| arm")[0]
    assert "> **Partial report**, written 20" in head and "So far: " in head and "In this run" not in text
    notice = "1 of 3 arms in. In: baseline. Still to come: full (1 of 2 seeds, running)."
    notice += " Without result: w_PI (failed)."
    assert "**w\\_PI**, seed 0: failed" in text and "**full**, seed 1" not in text, (
        "only what ended is missing"
    )
    top = page.partition("<nav>")[0]
    assert notice in top and top.index("Partial report") < top.index("So far: ")
    assert "<title>Partial: fake" in page


def test_every_table_and_figure_is_marked(report: Callable[..., Path]) -> None:
    folder = report(RUNNING)
    text, page = pages(folder)
    assert "Partial, 2 of 3 arms. Mean over prompts, 0 to 1" in text
    for file in (folder / "tables").glob("*.md"):
        assert "Partial, 2 of 3 arms." in file.read_text(encoding="utf-8"), file.name
    for file in (folder / "tables").glob("*.tex"):
        assert "(partial, 2 of 3 arms)" in file.read_text(encoding="utf-8").splitlines()[0], file.name
    captions = [line for line in text.splitlines() if line.startswith("Partial, 2 of 3 arms.")]
    assert len(captions) >= page.count('<figure class="plot">') > 0
    origin = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    assert (
        origin["partial"]["arms"] == "2 of 3 arms"
        and "full (running, planned)" in origin["partial"]["states"]
    )


def test_the_numbers_of_the_arms_that_are_in_are_those_of_the_whole_report(
    report: Callable[..., Path],
) -> None:
    folder = report(RUNNING)
    with (folder / "tables" / "table.csv").open(encoding="utf-8", newline="") as stream:
        partial = {row["arm"]: row for row in csv.DictReader(stream)}
    assert partial["full"]["mean"] == "running"
    folder = report({})
    with (folder / "tables" / "table.csv").open(encoding="utf-8", newline="") as stream:
        whole = {row["arm"]: row for row in csv.DictReader(stream)}
    for arm in ("baseline", "w_PI"):
        assert partial[arm] == whole[arm]


def test_no_claim_is_decided_before_all_arms_are_in(report: Callable[..., Path]) -> None:
    folder = report(RUNNING)
    text, page = pages(folder)
    assert "- The full reward is better than the baseline: **not yet decided** (full running)" in text
    assert "- PI alone is better than the baseline: **not yet decided** (its arms are in, but the cor" in text
    for word in ("reproduced", "contradicted"):
        assert word not in text and word not in page.partition("<body>")[2]
    for name in ("tables/claims.csv", "tables/contrasts.csv", "figures/claims.png"):
        assert not (folder / name).exists(), name


@pytest.mark.parametrize(
    "states",
    [{}, {("w_PI", 0): ("failed", "boom"), ("full", 1): ("lost", None)}],
    ids=["all are in", "some failed or were lost"],
)
def test_a_study_that_has_ended_is_not_marked(report: Callable[..., Path], states: Any) -> None:
    folder = report(states)
    for file in folder.rglob("*"):
        if file.suffix in (".md", ".html", ".json", ".tex", ".csv"):
            assert "artial" not in file.read_text(encoding="utf-8"), file.name
    assert (folder / "tables" / "claims.csv").exists()


@pytest.mark.parametrize("arms_in", [(), ("baseline",)], ids=["none", "the baseline"])
def test_too_few_arms_for_a_figure_are_no_error(
    report: Callable[..., Path], arms_in: tuple[str, ...]
) -> None:
    others = {
        (arm, seed): ("planned", None)
        for arm in ("baseline", "w_PI", "full")
        for seed in (0, 1)
        if arm not in arms_in
    }
    published = {"columns": ["color"], "rows": {"baseline": [0.1], "full": [0.2], "w_PI": [0.3]}}
    text, _ = pages(report(others, published=published))
    assert f"{len(arms_in)} of 3 arms in." in text
