"""The report of a study of plans: its sections, head, tables and gallery."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest
from mini_plans import ARMS, Arm, PlanStudy
from PIL import Image

from harness.analysis.results import read_study
from harness.analysis.study import Analysis
from harness.plan_rows import PlanRow
from harness.report.build import write_report
from harness.report.plan_gallery import chain_difference, draw_found
from harness.report.plan_sections import plan_findings

PUBLISHED = {"columns": ["relation"], "rows": {"reencoded": [0.75], "minimal": [0.81], "swap": [0.48]}}
CLAIM = {"text": "Repair helps", "better": "minimal", "than": "reencoded", "categories": ["relation"]}
FACTS = {
    "published": PUBLISHED,
    "claims": {"repair": CLAIM},
    "margin": {"value": 0.06, "reason": "the paper's intervals"},
}
SECTIONS = (
    "Plan or drawing?",
    "What another chain changes",
    "Dose and best of K",
    "Improbable chains",
    "Blind metrics",
    "What was drawn",
)


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("report")
    states = {"sft_reencoded": "failed"}
    return write_report(PlanStudy(root, facts=FACTS, states=states).write(), root / "reports")


def table(report: Path, name: str) -> list[dict[str, str]]:
    with (report / "tables" / f"{name}.csv").open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def findings(tmp_path, **changes) -> str:
    return " ".join(plan_findings(Analysis(read_study(PlanStudy(tmp_path, **changes).write()))))


@pytest.mark.parametrize("page", ["index.html", "report.md"])
def test_both_pages_have_every_section_with_its_figures_and_measures(report, page):
    text = (report / page).read_text(encoding="utf-8")
    places = [text.index(title) for title in SECTIONS]
    assert places == sorted(places)
    assert "roles=name" in text and "R = p a" in text
    if page == "report.md":
        for name in ("plan_attribution", "plan_effects", "plan_dose", "plan_nll"):
            assert text.replace("\\_", "_").count(f"(figures/{name}.png)") == 1
            assert (report / "figures" / f"{name}.svg").is_file()


def test_the_head_says_plan_or_drawing_and_names_blind_metrics(report):
    head = (report / "index.html").read_text(encoding="utf-8").partition("<nav>")[0]
    assert "from sft_own to own the share of right images changes by +0.300" in head
    assert "Blind to the relation: the scores of complex do not fall" in head
    assert "Repair helps (+0.300)" in head


def test_one_checkpoint_is_described_and_metrics_that_fall_are_not_named(tmp_path):
    text = findings(tmp_path, arms={"own": ARMS["own"]})
    assert text == (
        "Plan or drawing: with own, 0.600 of the images are right; 0.100 are wrong with a right plan (a fault"
        " of the drawing), 0.300 with a wrong plan."
    )


@pytest.mark.parametrize("right", [0, 5])
def test_nothing_is_called_blind_where_the_relation_does_not_fall(tmp_path, right):
    arms = {"reencoded": Arm("reencoded"), "swap": Arm("swap")}
    text = findings(tmp_path, arms=arms, right={"full": right})  # exchanging wrong plans makes them right
    assert "no score can show whether it is blind" in text and "Blind" not in text


def test_effects_stand_beside_the_papers_and_say_what_was_applied(report):
    rows = {row["arm"]: row for row in table(report, "plan_effects")}
    assert list(rows) == list(ARMS)
    minimal = rows["minimal"]
    assert (minimal["effect"], minimal["applied_images"], minimal["images"]) == ("0.3", "24", "80")
    assert float(minimal["published_effect"]) == pytest.approx(0.06)
    assert float(minimal["p_holm"]) >= float(minimal["p"])
    assert rows["verify_3"]["published_effect"] == ""
    assert rows["oracle"]["not_in_training"] == "not in training" and rows["swap"]["not_in_training"] == ""
    assert rows["sft_reencoded"]["reason"] == "failed"
    assert rows["sft_own"]["reason"] == "no arm of its baseline"


def test_the_published_measure_is_compared_as_a_category_is(report):
    rows = {row["arm"]: row for row in table(report, "published")}
    assert set(rows) == {"reencoded", "minimal", "swap"}
    assert {row["category"] for row in rows.values()} == {"relation"}
    assert float(rows["minimal"]["ours_minus_baseline"]) == pytest.approx(0.3)


def test_every_number_of_the_other_tables_is_there(report):
    attribution = {(row["arm"], row["rule"]): row for row in table(report, "plan_attribution")}
    own = attribution["own", "own"]
    assert float(own["plan_right"]) == pytest.approx(0.7) and float(own["image_right"]) == pytest.approx(0.6)
    (change, _) = table(report, "plan_changes")
    assert float(change["plan_part"]) + float(change["drawing_part"]) == pytest.approx(0.3, abs=1e-5)
    assert [row["k"] for row in table(report, "plan_best_of")] == ["1", "2", "3"]
    assert {row["verdict"] for row in table(report, "plan_blind") if row["column"] == "complex"} == {"blind"}
    counts = {row["arm"]: row for row in table(report, "plan_counts")}
    assert counts["reencoded"]["round_trip"] == "0.75"
    assert counts["minimal"]["reasons"] == "56: the chain is right"
    assert {row["subset"] for row in table(report, "plan_subsets")} >= {"directional", "plan wrong before"}
    assert table(report, "plan_dose")[0]["distance"] == "0.5"


@pytest.mark.filterwarnings("error::UserWarning")
def test_figures_of_few_arms_have_room(tmp_path):
    arms = {name: ARMS[name] for name in ("own", "reencoded", "minimal")}
    report = write_report(PlanStudy(tmp_path, arms=arms, facts=FACTS).write(), tmp_path / "reports")
    assert {"plan_attribution.svg", "plan_effects.svg", "published.svg"} <= {
        file.name for file in (report / "figures").iterdir()
    }


def test_an_intervention_that_changed_nothing_has_its_sentence(tmp_path):
    study = PlanStudy(tmp_path, right={"full": 10, "sft": 4})
    text = (write_report(study.write(), tmp_path / "reports") / "report.md").read_text(encoding="utf-8")
    sentence = "changed none of 80 chains (80: the chain is right): the arm minimal equals reencoded."
    assert f"Intervention minimal {sentence}" in text


def test_the_gallery_shows_on_hover_how_a_chain_differs_from_the_own_one(report):
    page = (report / "index.html").read_text(encoding="utf-8")
    titles = re.findall(r'title="([^"]*)"', page)
    assert any("[-(600,250),(950,750)-]{+(610,250),(950,750)+}" in title for title in titles)
    assert "Dashed: where subject and object were found" in page


def test_a_difference_keeps_the_words_of_both_chains():
    assert chain_difference("a cup here", "a cup here") == "a cup here"
    assert chain_difference("a red cup", "a blue cup") == "a [-red-]{+blue+} cup"
    assert chain_difference("a cup", "") == "[-a cup-]"


def test_found_boxes_are_drawn_dashed_and_missing_ones_not_at_all():
    row = dict.fromkeys(PlanRow.__dataclass_fields__)
    image = Image.new("RGB", (101, 101), "white")
    draw_found(image, PlanRow(**row))
    assert image.getcolors() == [(101 * 101, (255, 255, 255))]
    boxes = ((100.0, 100.0, 900.0, 900.0), (0.0, 0.0, 50.0, 50.0))
    draw_found(image, PlanRow(**{**row, "found": boxes}))
    edge = [image.getpixel((x, 10)) for x in range(10, 91)]
    assert len(set(edge)) == 2  # dashes and gaps
    assert image.getpixel((50, 50)) == (255, 255, 255)


def test_other_reports_have_no_section_on_plans(fake_study, tmp_path):
    report = write_report(fake_study(prompts=4).write(), tmp_path / "reports")
    assert "plan_" not in (report / "report.md").read_text(encoding="utf-8")
    assert 'id="plans"' not in (report / "index.html").read_text(encoding="utf-8")
