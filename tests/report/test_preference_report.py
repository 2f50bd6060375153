"""From the shipped study of votes to its report; a program of the tests writes the chains, no model."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import mini_written
import pytest
from hydra import compose, initialize
from hydra.core.global_hydra import GlobalHydra

from harness.analysis.claims import HOLDS, REPRODUCED
from harness.analysis.results import read_study
from harness.analysis.study import Analysis
from harness.report.build import write_report
from harness.stages.store import StageStore
from harness.study import planning
from harness.study.tasks import tasks_of

PROMPTS = 150
WRONG = {"sft": 6, "grpo": 1, "none": 3}  # of 10 chains


class Silent:
    """A reporter that says nothing."""

    def begin(self, stage):
        pass

    def wait(self, stage, owner):
        raise AssertionError("nobody else is here")

    def progress(self, step, total, metrics):
        pass


def plan(outputs: Path, *words: str) -> planning.Study:
    """The planned study; an arm writes worse chains with trainers=sft."""

    def stages(config):
        trains = "SftGrpo" in config["trainers"]["_target_"]
        wrong = WRONG["grpo" if trains else "sft"] if config["seed"] < 10 else WRONG["none"]
        return (mini_written.chains(prompts=PROMPTS, wrong=wrong),)

    with pytest.MonkeyPatch.context() as patch, initialize(version_base="1.3", config_path=None):
        patch.setattr(planning, "plan_stages", stages)
        arguments = ["ablations=chain_preference", f"outputs_dir={outputs}", *words]
        config = compose("config", arguments, return_hydra_config=True)
        loader = GlobalHydra.instance().config_loader()
        return planning.plan(config, loader, planning.expand(config, arguments))


def run(study: planning.Study) -> planning.Study:
    planning.write_plan(study)
    for task in tasks_of(study):
        study.store.make(task.stage, Silent())
    return study


@pytest.fixture(scope="module")
def finished(make_once: Callable[[str, Callable[[Path], None]], Path]) -> Path:
    """The folder that holds `outputs` and `reports` of the study."""

    def write(folder: Path) -> None:
        study = run(plan(folder / "outputs"))
        write_report(study.folder, folder / "reports")

    return make_once("chain_preference", write)


@pytest.fixture(scope="module")
def analysis(finished: Path) -> Analysis:
    return Analysis(read_study(finished / "outputs" / "studies" / "chain_preference"))


def rows(finished: Path, table: str) -> list[dict[str, str]]:
    file = finished / "reports" / "chain_preference" / "tables" / f"{table}.csv"
    return list(csv.DictReader(file.read_text(encoding="utf-8").splitlines()))


def page(finished: Path) -> str:
    return (finished / "reports" / "chain_preference" / "report.md").read_text(encoding="utf-8")


def test_the_report_finds_the_lean_of_the_simulated_judge_and_none_of_the_exact_one(finished):
    simulated, exact = rows(finished, "judges")
    assert (simulated["judge"], exact["judge"], exact["label"]) == ("simulated", "oracle", "exact judge")
    assert 0.1 < float(simulated["lean"]) < 0.3 and float(simulated["lean_p"]) < 0.001
    assert (float(exact["lean"]), float(exact["consistency"]), float(exact["lean_p"])) == (0, 1, 1)
    text = page(finished)
    assert re.search(r"The judge simulated favors the chain it sees first \(\+0\.[12]\d\d, ", text)
    assert "The judge oracle shows no lean to the chain it sees first" in text
    assert text.index("favors the chain it sees first") < text.index("| arm |"), "over the table"


def test_the_shares_of_the_votes_stand_beside_the_papers(finished):
    shares = {row["arm"]: row for row in rows(finished, "table")}
    assert float(shares["full"]["color"]) + float(shares["baseline"]["color"]) == pytest.approx(1)
    assert float(shares["full"]["mean"]) > 0.6
    assert (shares["full"]["color_published"], shares["baseline"]["complex_published"]) == ("0.79", "0.29")
    assert (shares["full"]["captions"], shares["full"]["captions_published"]) == ("", "0.69")
    assert "not measured / 0.69" in page(finished)


def test_the_claims_are_decided_by_the_first_judge(analysis):
    preferred, twice = analysis.verdicts
    assert preferred.verdict == REPRODUCED
    (result,) = preferred.results
    assert result.comparison.prompts == PROMPTS and result.published_difference == pytest.approx(0.56)
    means = [analysis.means("full", category) for category in analysis.categories]
    share = sum(sum(found.values()) / len(found) for found in means) / len(means)
    assert result.comparison.effect == pytest.approx(2 * share - 1)
    assert twice.results[0].outcome != HOLDS or result.comparison.effect > 0.333
    assert twice.results[0].contrast.label() == "full > baseline + 0.333"


def test_every_table_of_votes_is_there_and_none_of_images(finished):
    tables = {file.stem for file in (finished / "reports/chain_preference/tables").glob("*.csv")}
    assert {"votes", "judges", "judge_agreement", "vote_cost", "claims", "contrasts", "cells"} <= tables
    assert not {"scores", "split_unseen", "published", "strengths", "metrics"} & tables
    figures = {file.stem for file in (finished / "reports/chain_preference/figures").glob("*.svg")}
    assert {"votes", "claims"} <= figures and not {"scores", "rewards", "gallery"} & figures
    (agreement,) = rows(finished, "judge_agreement")
    assert (agreement["judge"], agreement["other"]) == ("simulated", "oracle")
    assert 0.5 < float(agreement["agreement"]) < 1 and float(agreement["ac1"]) > 0.4
    (cost, _) = rows(finished, "vote_cost")
    assert (cost["estimated_questions"], cost["questions"], cost["tokens_in"]) == (str(2 * PROMPTS),) * 2 + (
        "",
    )
    every = [row for row in rows(finished, "votes") if row["set"] == "all sets"]
    for row in every:
        assert sum(int(row[name]) for name in ("won", "tied", "lost")) == int(row["prompts"]) == PROMPTS


def test_examples_show_disagreements_first_in_the_judges_words(finished):
    text = page(finished)
    words = text[text.index("## Votes in the judge's words") :]
    assert words.index("the two orders disagree") < words.index("both orders agree")
    assert words.count("A is full, B is baseline: for full") >= 3
    assert '"selected"' in words.replace("\\", "") and "box\\_start" not in words


def test_all_cells_are_listed_and_counted_with_their_stages(finished):
    cells = rows(finished, "cells")
    assert [row["arm"] for row in cells] == ["baseline", "full", "full~baseline"]
    assert cells[2]["stages"].split()[-1].startswith("votes-")
    origin = json.loads((finished / "reports/chain_preference/provenance.json").read_text())
    assert "votes" in origin["cells"][2]["stages"]
    counts = rows(finished, "counts")
    assert counts[0]["samples"] == "" and counts[0]["truncated_chains"] == "0"


def test_a_pair_without_votes_is_missing_and_says_so(tmp_path):
    study = plan(tmp_path)
    planning.write_plan(study)
    for task in tasks_of(study)[:2]:
        study.store.make(task.stage, Silent())
    found = Analysis(read_study(study.folder))
    assert found.verdicts[0].results[0].reason == "votes on full~baseline planned"
    report = write_report(study.folder, tmp_path / "reports") / "report.md"
    assert "Still to come: full\\~baseline (planned)." in report.read_text(encoding="utf-8")


def test_several_seeds_are_compared_seed_by_seed(tmp_path):
    study = run(plan(tmp_path, "study.seeds=[0,10]"))
    found = Analysis(read_study(study.folder))
    comparison = found.verdicts[0].results[0].comparison
    assert comparison.by_seed[0] > comparison.by_seed[1] == 0, "with seed 10 both arms write the same"
    write_report(study.folder, tmp_path / "reports")


def test_a_finished_study_asks_nothing_again(finished):
    outputs = finished / "outputs"
    assert tasks_of(plan(outputs)) == []
    assert StageStore(outputs / "stages").is_complete(plan(outputs).cells[-1].stages[-1])
