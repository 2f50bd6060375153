"""Numbers of a study with known effects, without writing a report."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

import pytest

from harness.analysis.contrasts import Comparison, Contrast
from harness.analysis.results import read_study
from harness.analysis.study import Analysis
from harness.report.cost import cost_table, final_value, run_tables
from harness.report.gallery import make_gallery
from harness.report.published_tables import paper_order, rank_correlation
from harness.report.table import Table
from harness.report.tables import score_tables

CLAIM = {"c": {"text": "full wins", "better": "full", "than": "baseline", "categories": "all"}}
BOTH = Contrast("full", "baseline", ("color", "2D-spatial"))


def analysed(study) -> Analysis:
    return Analysis(read_study(study.write()))


def rows(tables: Sequence[Table], name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(next(table for table in tables if table.name == name).csv())))


def test_a_real_effect_is_found_with_its_size(fake_study):
    analysis = analysed(fake_study(claims=CLAIM))
    assert [verdict.verdict for verdict in analysis.verdicts] == ["reproduced"]
    assert analysis.verdicts[0].note == "over 2 training runs"
    found = analysis.contrast(BOTH)
    assert isinstance(found, Comparison)
    assert found.effect == pytest.approx(0.4, abs=0.03)
    assert found.prompts == 120
    assert found.interval.low is not None and found.interval.high is not None
    assert found.interval.low < found.effect < found.interval.high


def test_a_reversed_effect_contradicts(fake_study):
    analysis = analysed(fake_study(claims=CLAIM, arms={"baseline": 0.7, "full": 0.3}, seeds=(0,)))
    assert (analysis.verdicts[0].verdict, analysis.verdicts[0].note) == ("contradicted", "this run only")


def test_no_effect_and_too_few_prompts_is_undecided(fake_study):
    study = fake_study(claims=CLAIM, arms={"baseline": 0.5, "full": 0.5}, seeds=(0,), prompts=20)
    (verdict,) = analysed(study).verdicts
    assert verdict.verdict == "undecided"
    (result,) = verdict.results
    assert result.prompts_needed is not None and result.prompts_needed > 20
    assert result.seeds_needed is None


def test_no_effect_above_the_margin_is_not_supported(fake_study):
    study = fake_study(claims=CLAIM, arms={"baseline": 0.5, "full": 0.5}, seeds=(0,), margin=0.1)
    (verdict,) = analysed(study).verdicts
    assert (verdict.verdict, verdict.note) == (
        "not supported", "no difference above 0.1 in 1 of 1 contrast, this run only",
    )  # fmt: skip


def test_the_tables_of_the_claims_have_every_number(fake_study):
    published = {"columns": ["color", "2D-spatial"], "rows": {"baseline": [0.1, 0.9], "full": [0.4, 0.8]}}
    than = {"than": ["baseline", "w_spa"]}
    analysis = analysed(fake_study(claims={"c": CLAIM["c"] | than}, published=published))
    tables = score_tables(analysis)
    (claim,) = rows(tables, "claims")
    assert (claim["verdict"], claim["contrasts"], claim["holds"], claim["not_measured"]) == (
        "undecided", "2", "1", "1",
    )  # fmt: skip
    found = analysis.contrast(BOTH)
    assert isinstance(found, Comparison)
    effects = found.by_category
    assert claim["effects_by_category"] == (
        f"full > baseline color:{effects['color']:.6g} 2D-spatial:{effects['2D-spatial']:.6g}"
    )
    contrast, missing = rows(tables, "contrasts")
    assert (contrast["categories"], contrast["outcome"], contrast["seeds"]) == (
        "color 2D-spatial",
        "holds",
        "2",
    )
    assert [float(value) for value in contrast["effect_by_seed"].split()] == pytest.approx(
        found.by_seed, rel=1e-5
    )
    for name, value in {
        "effect": found.effect,
        "low": found.interval.low,
        "equivalence_high": found.equivalence.high,
        "prompt_error": found.spread.prompt_error,
        "run_error": found.spread.run_error,
        "margin": 0.02,
        "published_difference": 0.1,
    }.items():
        assert float(contrast[name]) == pytest.approx(value, rel=1e-5), name
    assert contrast["paper_direction"] == "1 of 2"
    assert (missing["outcome"], missing["reason"], missing["effect"]) == (
        "not measured", "w_spa is not in this run", "",
    )  # fmt: skip
    color = rows(tables, "claim_parts")[0]
    assert (color["category"], float(color["effect"])) == ("color", pytest.approx(effects["color"], rel=1e-5))
    assert "outcome" not in color


def test_an_arm_with_a_missing_seed_is_shown_but_not_compared(fake_study):
    analysis = analysed(fake_study(claims=CLAIM, states={("full", 1): ("lost", None)}))
    assert analysis.estimate("full", "color").mean == pytest.approx(0.7, abs=0.05)
    assert analysis.compare("full", "baseline", "color") == "full lost"
    assert analysis.verdicts[0].verdict == "not measured"
    main = score_tables(analysis)[0]
    assert main.rows[2][0].text == "full (1 of 2 seeds; lost)"


def test_seed_effects_are_kept_apart(fake_study):
    analysis = analysed(fake_study(claims=CLAIM))
    found = analysis.contrast(BOTH)
    assert isinstance(found, Comparison)
    for number, effect in enumerate(found.by_seed):
        (alone,) = [cell for cell in analysis.measured_cells("full") if cell.seed == number]
        (reference,) = [cell for cell in analysis.measured_cells("baseline") if cell.seed == number]
        pairs = zip(alone.scores, reference.scores, strict=True)
        assert effect == pytest.approx(sum(one.value - other.value for one, other in pairs) / 120)


def test_arms_outside_the_run_and_unknown_categories_have_a_reason(fake_study):
    analysis = analysed(fake_study())
    assert analysis.compare("full", "w_spa", "color") == "w_spa is not in this run"
    assert analysis.compare("full", "baseline", "shape") == "shape was not measured"


def test_splits_partition_the_prompts(fake_study):
    tables = score_tables(analysed(fake_study()))
    unseen = [
        row for row in rows(tables, "split_unseen") if row["arm"] == "full" and row["category"] == "color"
    ]
    assert {row["prompts_are"]: row["prompts"] for row in unseen} == {"seen": "45", "unseen": "15"}
    phrasing = rows(tables, "split_phrasing")
    assert {row["category"] for row in phrasing} == {"2D-spatial"}
    assert {row["prompts_are"] for row in phrasing} == {"direct", "inverse"}


def test_rank_correlation_with_the_published_table(fake_study):
    published = {
        "columns": ["color", "2D-spatial"],
        "rows": {"baseline": [0.1, 0.9], "w_PI": [0.2, 0.5], "full": [0.3, 0.2]},
    }
    analysis = analysed(fake_study(published=published))
    assert rank_correlation(analysis, "color") == (pytest.approx(1), 3)
    assert rank_correlation(analysis, "2D-spatial") == (pytest.approx(-1), 3)


def test_agreement_with_the_paper_is_one_number_with_an_interval(fake_study):
    published = {"columns": ["color"], "rows": {"baseline": [0.1], "w_PI": [0.3], "full": [0.2]}}
    analysis = analysed(fake_study(published=published))
    assert paper_order(analysis) == (
        "Agreement with the paper: Spearman's rho of the mean scores of 3 arms is +0.50 (+0.50 to +0.50);"
        " 2 of 3 pairs of arms are ordered as in the paper."
    )
    whole, color = rows(score_tables(analysis), "rank_correlation")
    assert list(whole.values()) == ["mean", "0.5", "0.5", "0.5", "3", "2", "3"]
    assert list(color.values()) == ["color", "0.5", "", "", "3", "", ""]


def test_best_of_a_column_is_marked_once(fake_study):
    main = score_tables(analysed(fake_study()))[0]
    assert [[cell.strong for cell in row[1:]] for row in main.rows] == [
        [False, False, False],
        [False, False, False],
        [True, True, True],
    ]


def test_only_cost_depends_on_how_long_it_took(fake_study):
    study = fake_study(seeds=(0,), claims=CLAIM)
    first = analysed(study)
    before = {table.name: table.csv() for tables in (score_tables, run_tables) for table in tables(first)}
    for record in study.outputs.glob("stages/*/stage.json"):
        record.write_text(record.read_text().replace("12.5", "99.25"))
    slower = Analysis(read_study(study.folder))
    after = {table.name: table.csv() for tables in (score_tables, run_tables) for table in tables(slower)}
    assert {name for name in before if before[name] != after[name]} == {"cost"}


def test_cost_and_counts(fake_study):
    analysis = analysed(fake_study(seeds=(0,), states={("full", 0): ("failed", "x")}))
    cost = rows(run_tables(analysis), "cost")
    assert (cost[0]["grpo_s"], cost[0]["peak_mb"], float(cost[0]["samples_per_s"])) == (
        "12.5",
        "321",
        pytest.approx(120 / 12.5),
    )
    assert (cost[2]["grpo_s"], cost[2]["sft_s"], cost[2]["samples_per_s"]) == ("", "12.5", "")
    counts = rows(run_tables(analysis), "counts")
    assert (counts[0]["samples"], counts[0]["training_unscored"], counts[0]["training_faulty_chains"]) == (
        "120",
        "20",
        "40",
    )
    assert (counts[2]["samples"], counts[2]["state"]) == ("", "failed")
    table = cost_table(analysis.study)
    assert table.header[-3:] == ("harness s", "samples/s", "peak MB")
    assert table.note.endswith("around stages: not recorded.")
    for cell in analysis.study.planned:
        for stage in cell.stages:
            stage.record["outside_s"] = 0.5
    assert cost_table(analysis.study).records[0][-3] == 0.5 * len(analysis.study.planned[0].stages)


def test_final_values_are_means_over_the_last_tenth():
    lines = [{"step": step, "reward": float(step), "component/pi": None} for step in range(30)]
    assert final_value(lines, "reward") == pytest.approx(28)
    assert final_value(lines, "component/pi") is None
    assert final_value([], "reward") is None


def test_large_images_become_small_files(fake_study):
    exhibits = make_gallery(analysed(fake_study(seeds=(0,), prompts=2, image_size=768)))
    pictures = [tile.image for exhibit in exhibits for tile in exhibit.tiles]
    assert pictures and all(picture is not None and picture.width <= 288 for picture in pictures)


def test_unscored_tiles_say_why(fake_study):
    exhibits = make_gallery(analysed(fake_study(seeds=(0,), prompts=2, unscored={"full": 4})))
    assert {exhibit.tiles[2].score for exhibit in exhibits} == {"unscored: unreadable answer"}


def test_without_a_published_table_no_agreement_is_claimed(fake_study):
    assert paper_order(analysed(fake_study(prompts=4, seeds=(0,)))) == ""
