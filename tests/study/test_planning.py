from __future__ import annotations

import json
from pathlib import Path

import pytest
from hydra import compose, initialize
from hydra.core.global_hydra import GlobalHydra

from benchmarks.shapes.benchmark import Shapes
from harness.composition import components
from harness.composition.arguments import UsageError
from harness.stages import contents, keys
from harness.stages.keys import key
from harness.stages.status import Status, read_status, write_status
from harness.study import planning
from harness.study.cell import _chosen_prompts

BASE = ["ablations=reward_components"]


@pytest.fixture
def planned(tmp_path):
    """Plans the reward-component study with further overrides, as the sweeper and the launcher do."""
    with initialize(version_base="1.3", config_path=None):

        def plan(*words: str) -> planning.Study:
            arguments = [*BASE, f"outputs_dir={tmp_path}", *words]
            config = compose(
                "config",
                [word for word in arguments if "," not in word or "[" in word],
                return_hydra_config=True,
            )
            return planning.plan(
                config, GlobalHydra.instance().config_loader(), planning.expand(config, arguments)
            )

        yield plan


def test_an_arm_that_is_composed_once_for_its_seeds_has_the_settings_of_each_seed_alone(planned):
    words = ["grpo.steps=${seed}"]
    with keys.remembered(), components.remembered():
        together = planned(*words, "arms=baseline,full,w_PI", "seed=3,1,7").cells
    alone = []
    for arm in ("baseline", "full", "w_PI"):
        for seed in (3, 1, 7):
            alone += planned(*words, f"arms={arm}", f"seed={seed}").cells
    assert [cell.config for cell in together] == [cell.config for cell in alone]
    assert [_keys(cell) for cell in together] == [_keys(cell) for cell in alone]
    assert together[3].config["grpo"]["steps"] != together[4].config["grpo"]["steps"]


def _keys(cell):
    return {stage.name: key(stage) for stage in cell.stages}


def test_arms_differ_only_from_grpo_on(planned):
    cells = {cell.arm: cell for cell in planned("arms=baseline,w_PI,full").cells}
    keys = {arm: _keys(cell) for arm, cell in cells.items()}
    assert keys["full"]["sft"] == keys["w_PI"]["sft"] == keys["baseline"]["sft"]
    assert keys["full"]["grpo"] != keys["w_PI"]["grpo"]
    assert "grpo" not in keys["baseline"]
    assert cells["full"].id == f"full-s0-{keys['full']['scores'][:8]}"


def test_the_seed_varies_grpo_and_samples_and_sft_seed_the_rest(planned):
    zero, one = planned("arms=full", "seed=0,1").cells
    assert _keys(zero)["sft"] == _keys(one)["sft"]
    assert _keys(zero)["grpo"] != _keys(one)["grpo"]
    (other,) = planned("arms=full", "sft_seed=1").cells
    assert _keys(other)["tokenizer"] != _keys(zero)["tokenizer"]


@pytest.mark.parametrize(
    "words", [["cluster=slurm"], ["resources.threads=2"], ["reports_dir=elsewhere"], ["study.name=mine"]]
)
def test_what_changes_no_number_changes_no_cell(planned, words):
    assert planned("arms=full", *words).cells[0].id == planned("arms=full").cells[0].id


def test_changed_prompts_leave_the_training_alone(planned):
    before, after = (
        _keys(planned("arms=full", *words).cells[0]) for words in ([], ["evaluation.images_per_prompt=2"])
    )
    assert before["grpo"] == after["grpo"] and before["samples"] != after["samples"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["arms=full"], [("full", 0)]),
        (["arms=[w_PI,full]"], [("w_PI", 0), ("full", 0)]),
        (["arms=full,full"], [("full", 0)]),
        (["arms=full", "seed=7"], [("full", 7)]),
        (["arms=full", "seed=2,1"], [("full", 2), ("full", 1)]),
        (["arms=full", "seed=range(0,3)"], [("full", 0), ("full", 1), ("full", 2)]),
    ],
)
def test_cells_are_arms_times_seeds(planned, words, expected):
    assert [(cell.arm, cell.seed) for cell in planned(*words).cells] == expected


def test_without_an_ablation_there_is_one_cell_named_like_the_study():
    with initialize(version_base="1.3", config_path=None):
        config = compose("config", ["study.name=trial"], return_hydra_config=True)
        (cell,) = planning.expand(config, ["study.name=trial", "seed=4"])
    assert cell == planning.CellPlan(arm="trial", seed=4, common=("study.name=trial",), overrides=())
    assert cell.composition == ["study.name=trial", "study.arm=trial", "seed=4"]


def test_the_overrides_of_an_arm_are_composed_after_the_command_line_and_kept_as_written():
    cell = planning.CellPlan(
        arm="a", seed=1, common=("sft.steps=2",), overrides=("rewards.total=pi*(sem+spa)",)
    )
    assert cell.composition == [
        "sft.steps=2",
        'rewards.total="pi*(sem+spa)"',
        "study.arm=a",
        "seed=1",
    ]
    assert cell.overrides == ("rewards.total=pi*(sem+spa)",)


def test_an_arms_override_wins_over_the_command_line(planned):
    (cell,) = planned("arms=baseline", "trainers=sft_grpo").cells
    assert "grpo" not in _keys(cell)


def test_claims_without_a_margin_stop_a_study_before_it_runs(planned):
    with pytest.raises(
        UsageError, match=r"in study reward_components: .* Write study\.margin: \{value: NUMBER"
    ):
        planned("study.margin=null")


def test_a_study_of_ones_own_without_claims_needs_no_margin(planned):
    made = planned("study.margin=null", "study.claims=null", "arms=baseline")
    assert made.facts["margin"] is None


def test_the_plan_is_on_disk_before_anything_runs(planned, tmp_path):
    made = planned("arms=baseline,full")
    planning.write_plan(made)
    plan = json.loads((tmp_path / "studies" / "reward_components" / "plan.json").read_text())
    assert (
        plan["study"]["name"] == "reward_components"
        and plan["study"]["claims"]
        and "arms" not in plan["study"]
    )
    assert plan["study"]["categories"] == [
        "color",
        "shape",
        "texture",
        "2D-spatial",
        "non-spatial",
        "complex",
    ]
    entry = plan["cells"][1]
    assert entry["arm"] == "full" and entry["overrides"] == ["rewards.total=pi*(sem+spa)/2*ri"]
    assert entry["stages"][-1]["folder"] == f"stages/scores-{entry['stages'][-1]['key']}"
    folder = made.folder / entry["folder"]
    assert read_status(folder).state == "planned"
    assert (folder / "config.yaml").read_text().count("judge:") > 0


def test_a_cell_whose_scores_are_there_is_done_whoever_made_them(planned):
    made = planned("arms=baseline,full")
    for cell in made.cells:
        made.folder_of(cell).mkdir(parents=True)
        write_status(made.folder_of(cell), Status(state="failed", error="yesterday", reward=0.5))
    scores = made.store.folder(made.cells[0].stages[-1])
    scores.mkdir(parents=True)
    (scores / "stage.json").write_text("{}")
    planning.write_plan(made)
    done, other = (read_status(made.folder_of(cell)) for cell in made.cells)
    assert (done.state, done.error) == ("done", None)
    assert other.state == "failed", "a job of an earlier sweep may still write there"


def test_an_added_arm_stands_beside_the_others():
    with initialize(version_base="1.3", config_path=None):
        config = compose("config", [*BASE, '+arm.mine=["rewards.total=pi*pi"]'], return_hydra_config=True)
        assert planning.arms_of(config)["mine"] == ["rewards.total=pi*pi"]
        assert "full" in planning.arms_of(config)
        config = compose("config", [*BASE, "+arm.full=[]"], return_hydra_config=True)
        with pytest.raises(UsageError, match="arm 'full' is an arm of reward_components already"):
            planning.arms_of(config)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("outputs_dir=", r"outputs_dir=: give a folder, such as outputs_dir=outputs"),
        ("outputs_dir=null", r"outputs_dir=null: give a folder"),
        ("rollout.guidance=strong", r"in arm full, seed 0: rollout\.guidance='strong': give a number"),
        (
            "evaluation.rollout.max_chain_tokens=1.5",
            r"evaluation\.rollout\.max_chain_tokens=1\.5: give a whole number",
        ),
        ("evaluation.split=test", r"no split 'test'; it has train, dev and val"),
    ],
)
def test_mistakes_are_found_when_the_study_is_planned(planned, word, message):
    with pytest.raises(UsageError, match=message):
        planned("arms=full", word)


def test_a_benchmark_without_prompts_is_refused_when_the_study_is_planned(planned, monkeypatch):
    monkeypatch.setattr(Shapes, "prompts", lambda self, split: [])
    _chosen_prompts.cache_clear()
    with pytest.raises(UsageError, match=r"evaluation\.split=val: the benchmark has no prompts there"):
        planned("arms=full")
    _chosen_prompts.cache_clear()


def test_a_rubric_of_ones_own_counts_by_content_in_the_stage_that_asks_it(planned, tmp_path):
    file = tmp_path / "mine.txt"

    def keys(text: str, path: Path = file) -> dict[str, str]:
        path.write_text(text)
        contents._file_digest.cache_clear()
        return _keys(planned("arms=full", f"rewards.components.pi.rubric={path}").cells[0])

    before = keys("How well does it show $prompt?")
    assert keys("How well does it show $prompt?", tmp_path / "other.txt") == before, "wherever it lies"
    after = keys("How badly does it show $prompt?")
    assert {name for name in before if before[name] != after[name]} == {"grpo", "samples", "scores"}
