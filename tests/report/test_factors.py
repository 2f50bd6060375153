"""The factors of a study in its report: gains by level, the lead of the full method, and many arms."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from harness.analysis.contrasts import Comparison
from harness.analysis.factors import factors_of
from harness.analysis.results import read_study
from harness.analysis.study import Analysis
from harness.report.build import write_report
from harness.report.factor_figures import caption
from harness.report.factor_tables import factor_tables

LEVELS = {"blind": 0.0, "half": 0.5, "exact": 1.0}
LABEL = "agreement of the judge <tau> & more"


def factor(*arms: str, levels: dict[str, float] = LEVELS) -> dict[str, Any]:
    """A factor as plan.json keeps it."""
    cells = {arm: {level: f"{arm}@{level}" for level in levels} for arm in arms}
    return {"label": LABEL, "arms": cells, "levels": dict(levels)}


FACTS = {"full": "full@half", "factors": {"judge": factor("w_PI", "full")}}
ARMS = {
    "baseline": 0.3,
    "w_PR": 0.4,
    **{"w_PI@blind": 0.2, "full@blind": 0.5},
    **{"w_PI@half": 0.5, "full@half": 0.6},
    **{"w_PI@exact": 0.6, "full@exact": 0.6},
}


def analysed(fake_study, **changes: Any) -> Analysis:
    return Analysis(
        read_study(fake_study(**{"arms": ARMS, "facts": FACTS, "seeds": (0,), **changes}).write())
    )


def test_gains_and_leads_have_the_effects_that_were_made(fake_study):
    analysis = analysed(fake_study, prompts=100)
    (found,) = factors_of(analysis)
    assert (found.name, found.label, found.full, found.fixed) == ("judge", LABEL, "full", ("w_PR",))
    assert [point.level for point in found.points] == ["exact"] * 3 + ["half"] * 3 + ["blind"] * 3
    points = {(point.arm, point.level): point for point in found.points}
    assert len(points) == 9
    for (arm, level), point in points.items():
        score = ARMS["w_PR" if arm == "w_PR" else f"{arm}@{level}"]
        assert isinstance(point.gain, Comparison)
        assert point.gain.effect == pytest.approx(score - 0.3, abs=0.04)
        assert point.gain.interval.low < point.gain.effect < point.gain.interval.high
        if arm == "full":
            assert point.lead is None
        else:
            assert isinstance(point.lead, Comparison)
            assert point.lead.effect == pytest.approx(ARMS[f"full@{level}"] - score, abs=0.04)
    exact = points["full", "exact"].gain.effect - points["w_PI", "exact"].gain.effect
    assert points["w_PI", "exact"].lead.effect == pytest.approx(exact)


def test_the_interval_of_a_lead_is_that_of_paired_prompts(fake_study):
    """Two arms that share their noise differ by a constant, so the paired interval has no width."""
    study = fake_study(arms=ARMS, facts=FACTS, seeds=(0,), prompts=30)
    study.write()
    scores = study.outputs / "stages"
    shifted = (scores / "scores-70ab" / "scores.jsonl").read_text()  # full@exact
    (scores / "scores-60ab" / "scores.jsonl").write_text(shifted)  # w_PI@exact
    (found,) = factors_of(Analysis(read_study(study.folder)))
    point = next(point for point in found.points if (point.arm, point.level) == ("w_PI", "exact"))
    assert isinstance(point.lead, Comparison)
    assert (point.lead.effect, point.lead.interval.low, point.lead.interval.high) == (0, 0, 0)


def test_a_failed_level_has_a_reason_and_no_number(fake_study):
    analysis = analysed(fake_study, prompts=12, states={("full@blind", 0): ("failed", "x")})
    (table,) = factor_tables(analysis)
    rows = list(csv.DictReader(io.StringIO(table.csv())))
    assert list(rows[0])[:7] == ["arm", "level", "at", "gain", "low", "high", "reason"]
    failed = next(row for row in rows if (row["arm"], row["level"]) == ("full", "blind"))
    assert (failed["gain"], failed["low"], failed["reason"]) == ("", "", "full@blind failed")
    beside = next(row for row in rows if (row["arm"], row["level"]) == ("w_PI", "blind"))
    assert float(beside["gain"]) < 0 and (beside["lead"], beside["lead_reason"]) == ("", "full@blind failed")
    shown = next(row for row in table.rows if row[0].text == "full" and row[1].text == "blind")
    assert (shown[3].text, shown[3].tone, shown[4].text) == ("full@blind failed", "missing", "–")


def test_a_factor_of_which_no_level_was_chosen_is_left_out(fake_study):
    assert factors_of(analysed(fake_study, prompts=12, arms={"baseline": 0.3, "w_PR": 0.4})) == []


def test_levels_that_were_not_chosen_are_left_out(fake_study):
    arms = {"baseline": 0.3, "w_PI@half": 0.5, "w_PR": 0.4}
    (found,) = factors_of(analysed(fake_study, prompts=12, arms=arms))
    assert [(point.arm, point.level) for point in found.points if point.arm != "w_PR"] == [("w_PI", "half")]
    assert next(point for point in found.points if point.arm == "w_PI").lead == "full@half is not in this run"


def test_a_study_without_baseline_in_this_run_says_so(fake_study):
    arms = {arm: score for arm, score in ARMS.items() if arm != "baseline"}
    analysis = analysed(fake_study, prompts=12, arms=arms)
    (found,) = factors_of(analysis)
    assert {point.gain for point in found.points} == {"baseline is not in this run"}
    assert caption(analysis, found).startswith(f"By {LABEL}: full minus every other arm. Means over")


def test_an_arm_of_another_factor_is_fixed_in_none(fake_study):
    levels = {"chain_blind": 0.0, "chain_exact": 1.0}
    arms = {**ARMS, **{f"w_PR@{level}": 0.5 for level in levels}}
    facts = {**FACTS, "factors": {"judge": factor("w_PI", "full"), "chain": factor("w_PR", levels=levels)}}
    judge, chain = factors_of(analysed(fake_study, prompts=12, arms=arms, facts=facts))
    assert judge.fixed == ("w_PR",) and chain.fixed == ()
    assert chain.full is None and all(point.lead is None for point in chain.points)


@pytest.fixture(scope="module")
def many(tmp_path_factory, make_study) -> Path:
    """The report of a study with 32 arms."""
    first = {
        "exact": 1.0,
        "tau_0.60": 0.6,
        "tau_0.45": 0.45,
        "tau_0.31": 0.31,
        "tau_0.15": 0.15,
        "blind": 0.0,
    }
    second = {"chain_exact": 1.0, "chain_tau_0.60": 0.6, "chain_tau_0.31": 0.31, "chain_blind": 0.0}
    factors = {
        "picture_judge": factor("w_PI", "w_PR_PI", "full", levels=first),
        "chain_judges": factor("w_PR_PI", "w_PR_RI", "full", levels=second),
    }
    arms = {"baseline": 0.3, "w_PR_RI": 0.5}
    for entry in factors.values():
        for cells in entry["arms"].values():
            arms |= dict.fromkeys(cells.values(), 0.5)
    study = make_study(
        tmp_path_factory.mktemp("many"),
        arms=arms,
        seeds=(0,),
        prompts=6,
        facts={"factors": factors, "full": "full@tau_0.31", "experts": ["a <judge>"]},
    )
    return write_report(study.write(), study.root / "reports")


def test_a_report_of_many_arms_has_tables_and_figures_of_its_factors(many):
    for name in ("factor_picture_judge", "factor_chain_judges"):
        assert (many / "figures" / f"{name}.png").is_file() and (many / "figures" / f"{name}.svg").is_file()
        assert (many / "tables" / f"{name}.csv").is_file()
    with (many / "tables" / "table.csv").open(encoding="utf-8") as stream:
        assert len(list(csv.DictReader(stream))) == 32
    page, text = ((many / name).read_text(encoding="utf-8") for name in ("index.html", "report.md"))
    said = "By agreement of the judge &lt;tau&gt; &amp; more: gain over baseline; full minus every other arm."
    assert f"<figcaption>{said}" in page
    assert page.index("factor_picture_judge.csv") < page.index("tables/scores.csv")
    assert "Rewards by: a &lt;judge&gt;." in page and r"Rewards by: a \<judge\>." in text
    assert "and the first 12 arms" in text


def test_no_image_of_many_arms_is_too_wide_to_read(many):
    for file in (many / "figures").glob("*.png"):
        with Image.open(file) as image:
            assert image.width <= 2200, file.name
