"""The description of a report's columns: metrics and labels, split categories, and blind metrics."""

from __future__ import annotations

import csv
import re
from typing import Any

import pytest

from harness.analysis import mirror
from harness.analysis.results import read_study
from harness.analysis.study import Analysis
from harness.report.build import write_report
from harness.report.gallery import make_gallery
from harness.report.legend import described_columns, legend
from harness.report.tables import score_tables

ALL = {"text": "full wins", "better": "full", "than": ["baseline"], "categories": "all"}
OWN = {"text": "full wins on color", "better": "full", "than": ["baseline"], "categories": ["color"]}
PUBLISHED = {
    "columns": ["color", "2D-spatial"],
    "rows": {"baseline": [0.1, 0.9], "w_PI": [0.2, 0.5], "full": [0.3, 0.2]},
}
RULES, MODEL = "color [np=rules]", "color [np=en_core_web_sm 3.5.0]"
BLIND = mirror.verdict([(f"p{number}", 0.5, 0.5 + (-1) ** number / 10) for number in range(10)])
FALLS = mirror.verdict([(f"p{number}", 0.5, 0.01 * number) for number in range(10)])


def entry(
    name: str, *labels: str, notes: tuple[str, ...] = (), found: dict[str, Any] | None = None
) -> dict[str, Any]:
    said = [*notes, *filter(None, [mirror.note(found)])]
    return {"name": name, "labels": list(labels), "notes": said, "mirror": found}


def split_by_arm(arm: str, seed: int) -> dict[str, Any]:
    """Noun phrases by rules for full, by the model for the others."""
    np = "np=rules" if arm == "full" else "np=en_core_web_sm 3.5.0"
    return {
        "color": entry("BLIP-VQA", "mode=official", np),
        "2D-spatial": entry("UniDet 2D", "mode=official"),
    }


def blind_in_full(arm: str, seed: int) -> dict[str, Any]:
    found = BLIND if (arm, seed) == ("full", 1) else FALLS
    return {
        "color": entry("BLIP-VQA (hub copy, approximate)", "np=rules", notes=("guidance 5",)),
        "2D-spatial": entry("UniDet 2D", "mode=official", "partial: 213 of 300 prompts", found=found),
    }


def analysed(study) -> Analysis:
    return Analysis(read_study(study.write()))


def test_the_columns_are_described_with_labels_and_notes(fake_study):
    analysis = analysed(fake_study(prompts=4, metrics=blind_in_full))
    color, spatial = described_columns(analysis)
    assert (color.heading, color.text) == ("color", "BLIP-VQA (hub copy, approximate) (np=rules); guidance 5")
    assert spatial.text.startswith("UniDet 2D (mode=official, partial: 213 of 300 prompts); ")
    assert legend(analysis, ["color"]) == "color: BLIP-VQA (hub copy, approximate) (np=rules)"


def test_equal_metrics_are_said_once(fake_study):
    alike = {category: entry("BLIP-VQA", "np=rules") for category in ("color", "2D-spatial")}
    analysis = analysed(fake_study(prompts=4, metrics=lambda arm, seed: alike))
    assert legend(analysis) == "color, 2D-spatial: BLIP-VQA (np=rules)"
    assert analysis.categories == ("color", "2D-spatial")


def test_a_note_of_some_arms_names_them(fake_study):
    analysis = analysed(
        fake_study(
            prompts=4,
            metrics=lambda arm, seed: {
                "color": entry(
                    "",
                    notes=("rewritten prompts",)
                    if arm == "full" or (arm, seed) == ("w_PI", 1)
                    else ("drawn",),
                )
            },
        )
    )
    (color,) = described_columns(analysis)
    assert color.text == "drawn (baseline, w_PI seed 0); rewritten prompts (w_PI seed 1, full)"


def test_a_blind_metric_is_flagged_in_every_heading_and_named_with_arm_and_numbers(fake_study):
    study = fake_study(prompts=6, metrics=blind_in_full, claims={"all": ALL}, published=PUBLISHED)
    analysis = analysed(study)
    for table in score_tables(analysis):
        if "color" in table.header:
            assert "2D-spatial (blind)" in table.header and "2D-spatial" not in table.header, table.name
    text = described_columns(analysis)[1].text
    assert (
        text.count("blind") == 1
        and "blind to left and right in full seed 1: 0.500, mirrored 0.500, drop " in text
    )
    assert "10 images of 10 prompts" in text
    assert text.endswith("falls when mirrored in baseline, w_PI, full seed 0")
    report = write_report(study.folder, study.root / "reports")
    for name in ("report.md", "index.html"):
        page = (report / name).read_text(encoding="utf-8")
        assert (
            "blind to left and right in full seed 1" in page
            and "Blind: in some arm the score did not fall" in page
        )
        assert not re.search(
            r"2D-spatial(?!\d| \(blind\)|-\d)", page.split("## Provenance")[0].split("<h2>Plots")[0]
        ), name


def test_unequal_metrics_are_neither_compared_nor_shown_as_one(fake_study):
    claims = {"all": ALL, "own": OWN, "each": {**ALL, "over": "each"}}
    analysis = analysed(fake_study(prompts=12, metrics=split_by_arm, claims=claims, published=PUBLISHED))
    assert analysis.categories == (MODEL, RULES, "2D-spatial")
    assert [verdict.verdict for verdict in analysis.verdicts] == ["not measured", "not measured", "undecided"]
    results = [result for verdict in analysis.verdicts for result in verdict.results]
    assert [result.outcome for result in results] == ["not measured"] * 3 + ["holds"]
    assert {result.reason for result in results[:3]} == {"color was scored by unequal metrics"}
    assert analysis.compare("full", "baseline", RULES) == "baseline has another metric"
    assert not isinstance(analysis.compare("w_PI", "baseline", MODEL), str)
    tables = {table.name: table for table in score_tables(analysis)}
    assert tables["table"].header == ("arm", "mean over categories", MODEL, RULES, "2D-spatial")
    assert [row[1].text for row in tables["table"].rows] == ["another metric"] * 3
    cells = {row[0].text: [cell.text for cell in row[2:4]] for row in tables["table"].rows}
    assert cells["full"][0] == cells["baseline"][1] == "another metric"
    assert re.fullmatch(r"0\.\d{3}", cells["full"][1]) and re.fullmatch(r"0\.\d{3}", cells["baseline"][0])
    assert (
        tables["published"].header == ("arm", "2D-spatial") and "Not here: color" in tables["published"].note
    )
    assert tables["rank_correlation"].header[3:] == ("2D-spatial",)
    model, rules, _, why = described_columns(analysis)
    assert model.text == "BLIP-VQA (mode=official, np=en_core_web_sm 3.5.0); scores of baseline, w_PI"
    assert rules.text == "BLIP-VQA (mode=official, np=rules); scores of full"
    assert why.heading == "color"
    assert why.text.startswith("2 columns. Its scores are of unequal metrics. They are not compared")


def test_an_arm_whose_seeds_differ_is_in_both_columns_and_compared_in_none(fake_study):
    def by_seed(arm: str, seed: int) -> dict[str, Any]:
        return {"color": entry("BLIP-VQA", "np=rules" if (arm, seed) == ("full", 1) else "np=spacy")}

    analysis = analysed(fake_study(prompts=12, metrics=by_seed))
    rules, spacy = "color [np=rules]", "color [np=spacy]"
    assert (
        analysis.estimate("full", rules).mean is not None
        and analysis.estimate("full", spacy).mean is not None
    )
    assert analysis.compare("full", "baseline", spacy) == "full has another metric"
    assert [column.text.split("scores of ")[1] for column in described_columns(analysis)[:2]] == [
        "baseline, w_PI, full seed 0",
        "full seed 1",
    ]


def test_the_gallery_shows_one_prompt_for_all_arms_and_says_whose_score_is_another(fake_study):
    exhibits = make_gallery(analysed(fake_study(prompts=4, seeds=(0,), metrics=split_by_arm)))
    assert [exhibit.category for exhibit in exhibits] == ["color", "color", "2D-spatial", "2D-spatial"]
    assert all(tile.image for exhibit in exhibits for tile in exhibit.tiles)
    scores = [tile.score for tile in exhibits[0].tiles]
    assert [score.partition(" ")[2] for score in scores] == ["[np=en_core_web_sm 3.5.0]"] * 2 + ["[np=rules]"]


@pytest.fixture(scope="module")
def apart(tmp_path_factory, make_study):
    study = make_study(
        tmp_path_factory.mktemp("apart"),
        prompts=6,
        metrics=split_by_arm,
        claims={"all": ALL},
        published=PUBLISHED,
    )
    return write_report(study.write(), study.root / "reports")


def test_every_written_table_of_scores_says_what_its_columns_are(apart):
    for name in (
        "table",
        "scores",
        "differences_to_baseline",
        "differences_to_full",
        "claim_parts",
        "split_unseen",
    ):
        shown = (apart / "tables" / f"{name}.md").read_text(encoding="utf-8")
        assert "np=rules" in shown and "2D-spatial: UniDet 2D (mode=official)" in shown, name
        assert r"\par{\footnotesize color" in (apart / "tables" / f"{name}.tex").read_text(encoding="utf-8")
    for name in ("report.md", "index.html"):
        page = (apart / name).read_text(encoding="utf-8")
        assert "The metrics of the columns" in page and page.count("UniDet 2D (mode=official)") > 4, name


def test_the_metrics_are_a_table_for_programs(apart):
    with (apart / "tables" / "metrics.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 3 * 2 * 2
    first = rows[0]
    assert (first["column"], first["category"], first["arm"], first["seed"]) == (
        MODEL,
        "color",
        "baseline",
        "0",
    )
    assert (first["metric"], first["labels"], first["mirror_verdict"], first["drop"]) == (
        "BLIP-VQA", "mode=official; np=en_core_web_sm 3.5.0", "", ""
    )  # fmt: skip


def test_a_benchmark_that_says_nothing_has_the_report_it_had(tmp_path, make_study):
    nothing = {category: entry("") for category in ("color", "2D-spatial")}
    reports = []
    for name, metrics in (("without", lambda arm, seed: None), ("empty", lambda arm, seed: nothing)):
        study = make_study(
            tmp_path / name, arms={"baseline": 0.3, "full": 0.5}, seeds=(0,), prompts=4, metrics=metrics
        )
        reports.append(write_report(study.write(), study.root / "reports"))
    without, empty = (
        {file.relative_to(report): file.read_bytes() for file in report.rglob("*") if file.is_file()}
        for report in reports
    )
    assert without == empty
    assert not (reports[0] / "tables" / "metrics.csv").exists()
    assert "columns are" not in (reports[0] / "report.md").read_text(encoding="utf-8")
