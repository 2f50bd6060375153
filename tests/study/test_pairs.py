"""Cells of pairs: which are planned, what they read, and what is refused before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mini_written
import pytest
from hydra import compose, initialize
from hydra.core.global_hydra import GlobalHydra

from harness.analysis.results import read_plan
from harness.composition.arguments import UsageError
from harness.stages.keys import key
from harness.study import planning
from harness.study.memory import estimate
from harness.study.pairs import check_run
from harness.study.tasks import tasks_of
from harness.types import Stage

PAIRS = "study.preference.pairs"
MORE = "study.preference.more_judges"


@pytest.fixture
def planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Plans the study of votes, whose arms write chains of a program of the tests."""

    def stages(config: dict[str, Any]) -> tuple[Stage, ...]:
        chains = mini_written.chains(prompts=9, wrong=1 if "SftGrpo" in config["trainers"]["_target_"] else 5)
        if config["evaluation"]["draw"]:
            return (chains, Stage(name="scores", program="json.dumps", settings={}, inputs={"x": chains}))
        return (chains,)

    monkeypatch.setattr(planning, "plan_stages", stages)
    with initialize(version_base="1.3", config_path=None):

        def plan(*words: str, ablation: str = "chain_preference") -> planning.Study:
            arguments = [f"ablations={ablation}", f"outputs_dir={tmp_path}", *words]
            hydra_words = [word for word in arguments if "," not in word or "[" in word]
            config = compose("config", hydra_words, return_hydra_config=True)
            cells = planning.expand(config, arguments)
            return planning.plan(config, GlobalHydra.instance().config_loader(), cells)

        yield plan


def judges(study: planning.Study) -> dict[str, Any]:
    return dict(study.cells[-1].stages[-1].settings["judges"])


def test_a_pair_is_a_cell_for_every_seed_that_reads_the_chains_of_its_arms(planned):
    study = planned("seed=0,1")
    assert [cell.arm for cell in study.cells] == ["baseline"] * 2 + ["full"] * 2 + ["full~baseline"] * 2
    first = study.cells[4]
    votes = first.stages[-1]
    assert (first.pair, first.seed, first.overrides) == (("full", "baseline"), 0, ())
    assert first.id == f"full~baseline-s0-{key(votes)[:8]}"
    chains = {cell.arm: cell.stages[-1] for cell in study.cells[:4] if cell.seed == 0}
    assert votes.name == "votes"
    assert votes.inputs == {"x": chains["full"], "y": chains["baseline"]}
    assert votes.settings["pair"] == ["full", "baseline"]
    assert "benchmarks" in first.config and "trainers" not in first.config, "what both arms share"


def test_the_judge_of_the_study_comes_first_and_further_ones_have_their_own_settings(planned):
    found = judges(planned("benchmarks.simulated.judge.picture_spread=7"))
    assert list(found) == ["simulated", "oracle"]
    assert found["simulated"]["picture_spread"] == 7 and "preference_first" in found["simulated"]
    assert found["oracle"] == {"_target_": "benchmarks.shapes.oracle.OracleJudge"}
    assert list(judges(planned("judge=oracle", f"{MORE}=[]"))) == ["oracle"]
    assert list(judges(planned("judge=server", "judge.serving.concurrency=4"))) == ["server", "oracle"]


def test_the_judge_of_an_arms_rewards_votes_on_no_chain(planned):
    words = ('+arm.other=["judge=oracle"]', f"{PAIRS}=[[other,baseline]]", f"{MORE}=[]")
    assert list(judges(planned(*words))) == ["simulated"]


def test_the_plan_holds_what_the_report_needs(planned):
    study = planned()
    planning.write_plan(study)
    plan = read_plan(study.folder)
    assert plan["study"]["categories"] == ["color", "2D-spatial", "complex"]
    preference = plan["study"]["preference"]
    assert preference["judges"]["oracle"] == "exact judge" and next(iter(preference["judges"])) == "simulated"
    assert preference["pairs"] == [["full", "baseline"]] and preference["unscored_tolerance"] == 0.5
    assert [cell["pair"] for cell in plan["cells"]] == [None, None, ["full", "baseline"]]
    assert (study.folder / plan["cells"][2]["folder"] / "config.yaml").is_file()


def test_chains_are_written_once_and_before_the_votes(planned):
    tasks = tasks_of(planned())
    assert [task.name.partition("-")[0] for task in tasks] == [
        *["chains"] * 2, "baseline", "full", "full~baseline",
    ]  # fmt: skip
    assert set(tasks[-1].needs) == {tasks[0].name, tasks[1].name}


def test_no_memory_of_votes_is_estimated(planned):
    study = planned()
    (_, _, pair) = study.cells
    assert estimate(pair.stages[-1], pair.config, study.store, processes=1, gpu=False) is None


def test_a_pair_with_an_arm_that_was_left_out_is_not_planned(planned):
    study = planned("arms=full")
    assert [cell.arm for cell in study.cells] == ["full"]
    with pytest.raises(
        UsageError, match="compares full and baseline, and this run has full alone: leave out"
    ):
        check_run(study.facts, study.cells)
    both = planned()
    check_run(both.facts, both.cells)


def test_other_studies_have_no_pairs(planned):
    study = planned("arms=baseline,full", ablation="training_details")
    assert [cell.pair for cell in study.cells] == [None, None]
    assert study.facts["preference"] is None


def test_an_order_or_question_of_ones_own_remakes_the_votes_alone(planned, tmp_path):
    def keys(*words: str) -> tuple[str, list[str]]:
        votes = planned(*words).cells[-1].stages[-1]
        return key(votes), sorted(map(key, votes.inputs.values()))

    before = keys()
    mine = tmp_path / "mine.txt"
    mine.write_text("Which of $first and $second shows $prompt?")
    for words in (["study.preference.ties=false"], [f"study.preference.rubric={mine}"], [f"{MORE}=[]"]):
        after = keys(*words)
        assert after[0] != before[0] and after[1] == before[1]
    assert keys("study.preference.unscored_tolerance=0.1") == before, "read when the votes are analyzed"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([f"{PAIRS}=[[full2,baseline]]"], r"pairs names full2 \(nearest: full\); arms are baseline, full"),
        ([f"{PAIRS}=[[full,full]]"], r"a pair needs two different arms"),
        ([f"{PAIRS}=[[full,baseline],[baseline,full]]"], r"has baseline and full twice"),
        ([f"{PAIRS}=full"], r"study\.preference\.pairs='full': give a list"),
        (["study.preference=yes"], r"write \{pairs: \[\[full, baseline\], \.\.\.\]\}, or null"),
        (["+study.preference.judge=oracle"], r"unknown setting 'study\.preference\.judge'.*more_judges"),
        ([f"{MORE}=[oracel]"], r"more_judges=oracel: unknown judge option 'oracel'\. Did you mean 'oracle'"),
        ([f"{MORE}=[simulated]"], r"more_judges=simulated: this judge votes already"),
        ([f"{MORE}=oracle"], r"more_judges='oracle': give a list of options of judge="),
        (["study.preference.ties=maybe"], r"study\.preference: ties='maybe'"),
        (["study.preference.unscored_tolerance=2"], r"study\.preference\.unscored_tolerance=2"),
        (["benchmarks.simulated.judge.preference_first=2"], r"judge=: .*preference_first=2"),
        (["evaluation.draw=true"], r"the last stage of arm full is scores: set evaluation\.draw=false"),
        (
            ['+arm.dev=["evaluation.split=dev"]', f"{PAIRS}=[[dev,full]]"],
            r"dev and full were planned for different prompts \(evaluation\.split dev and val\): give both",
        ),
        (
            ['+arm.more=["benchmarks.n_prompts=5"]', f"{PAIRS}=[[more,full]]"],
            r"more and full were planned for different prompts \(benchmarks differs\)",
        ),
    ],
)
def test_mistakes_are_found_when_the_study_is_planned(planned, words, message):
    with pytest.raises(UsageError, match=message):
        planned(*words)
