"""The report of a study of judges: agreement instead of scores."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from harness.analysis.results import read_study
from harness.analysis.study import Analysis
from harness.report.build import write_report

PUBLISHED = {
    "setting": "500 pairs against people",
    "columns": ["tau", "rho"],
    "rows": {"judge": [0.31, 0.34], "elsewhere": [0.18, 0.21]},
}


@pytest.fixture
def study(fake_study) -> Path:
    """`judge` orders as the reference in one category, reversed in the other; `constant` gives one grade."""
    folder = fake_study(
        arms={"judge": 0.5, "constant": 0.5, "late": 0.5},
        seeds=(0,),
        prompts=20,
        published=PUBLISHED,
        unscored={"judge": 3},
        states={("late", 0): ("failed", "it broke")},
    ).write()
    plan = json.loads((folder / "plan.json").read_text())
    for cell in plan["cells"]:
        place = {stage["name"]: folder.parents[1] / stage["folder"] for stage in cell["stages"]}
        file = place["scores"] / "scores.jsonl"
        if not file.is_file():
            continue
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        for row in rows:
            reference = row["index"] % 20
            if cell["arm"] == "constant":
                row["value"] = 0.5
            elif row["value"] is not None:
                row["value"] = (reference if row["category"] == "color" else 19 - reference) / 20
            row["evidence"] = {"reference": reference, "judge": {}}
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def table(report: Path, name: str) -> list[dict[str, str]]:
    with (report / "tables" / f"{name}.csv").open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_the_page_shows_agreement_beside_the_papers_and_compares_no_scores(study, tmp_path):
    report = write_report(study, tmp_path / "reports")
    rows = {row["judge"]: row for row in table(report, "agreement")}
    assert list(rows) == ["judge", "constant", "late", "elsewhere"]
    assert rows["judge"]["pairs"] == "37" and rows["judge"]["unscored"] == "3"
    assert float(rows["judge"]["tau_low"]) <= float(rows["judge"]["tau"]) <= float(rows["judge"]["tau_high"])
    assert rows["constant"]["reason"] == "the judge gave every sample the same score"
    assert rows["late"]["reason"] == "failed" and rows["elsewhere"]["reason"] == "not in this run"
    assert (rows["judge"]["published_tau"], rows["elsewhere"]["published_rho"]) == ("0.31", "0.21")
    taus = {(row["judge"], row["category"]): row["tau"] for row in table(report, "agreement_by_category")}
    assert taus["judge", "color"] == "1" and taus["judge", "2D-spatial"] == "-1"
    assert taus["constant", "color"] == ""
    names = {file.stem for file in (report / "tables").iterdir()}
    assert not names & {"table", "scores", "differences_to_full", "published"}
    figures = {file.name for file in (report / "figures").iterdir()}
    assert "agreement.svg" in figures and "scores.svg" not in figures
    for page in ("report.md", "index.html"):
        text = (report / page).read_text(encoding="utf-8")
        assert "constant undefined" in text and "500 pairs against people" in text
        assert "makes no claims" not in text and "1 of 3 cells missing" in text


def test_a_study_of_scores_has_no_agreement(fake_study):
    analysis = Analysis(read_study(fake_study(prompts=4).write()))
    assert analysis.agreements == {}
