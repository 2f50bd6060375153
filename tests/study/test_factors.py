from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hydra.core.global_hydra import GlobalHydra

from harness.command import composed
from harness.composition.arguments import UsageError, prepare
from harness.stages.keys import key
from harness.study import factors, planning

LEARNING_RATE = {
    "label": "learning rate of GRPO",
    "arms": {"w_PI": ["rewards.total=pi"], "full": []},
    "levels": {
        "slow": {"at": 0.0001, "overrides": ["grpo.learning_rate=1e-4"]},
        "x_0.5": {"at": 0.5, "overrides": ["grpo.learning_rate=5e-1"]},
    },
}


def changed(path: str, value: Any) -> dict[str, Any]:
    """The factors of a study with one entry set to another value."""
    given = {"rate": copy.deepcopy(LEARNING_RATE)}
    *parents, last = path.split("/")
    node: Any = given
    for name in parents:
        node = node[name]
    node[last] = value
    return given


def test_every_arm_of_a_factor_is_crossed_with_every_level_whose_overrides_come_last():
    assert factors.arms_of_factors({"rate": LEARNING_RATE}) == {
        "w_PI@slow": ["rewards.total=pi", "grpo.learning_rate=1e-4"],
        "full@slow": ["grpo.learning_rate=1e-4"],
        "w_PI@x_0.5": ["rewards.total=pi", "grpo.learning_rate=5e-1"],
        "full@x_0.5": ["grpo.learning_rate=5e-1"],
    }


def test_the_report_is_given_label_places_and_arms_by_level():
    assert factors.facts({"rate": LEARNING_RATE}) == {
        "rate": {
            "label": "learning rate of GRPO",
            "arms": {
                "w_PI": {"slow": "w_PI@slow", "x_0.5": "w_PI@x_0.5"},
                "full": {"slow": "full@slow", "x_0.5": "full@x_0.5"},
            },
            "levels": {"slow": 0.0001, "x_0.5": 0.5},
        }
    }


def test_equal_cells_of_two_factors_are_one_arm_and_unequal_ones_are_refused():
    both = {"rate": LEARNING_RATE, "again": LEARNING_RATE}
    assert factors.arms_of_factors(both) == factors.arms_of_factors({"rate": LEARNING_RATE})
    other = copy.deepcopy(LEARNING_RATE)
    other["levels"]["slow"]["overrides"] = ["grpo.learning_rate=2e-4"]
    with pytest.raises(UsageError, match=r"factors\.again gives w_PI@slow .*another factor.*another name"):
        factors.arms_of_factors({"rate": LEARNING_RATE, "again": other})


@pytest.mark.parametrize(
    ("path", "value", "parts"),
    [
        ("rate", ["a"], ["study.factors.rate has ['a']", "exactly label, arms, levels"]),
        ("rate/colour", 1, ["label, arms, levels, colour", "exactly label, arms, levels"]),
        ("rate/label", "", ["study.factors.rate.label is ''", "a text"]),
        ("rate/label", 3, ["study.factors.rate.label is 3", "a text"]),
        ("rate/arms", {}, ["study.factors.rate.arms is {}", "at least one"]),
        ("rate/arms", ["full"], ["study.factors.rate.arms is ['full']", "NAME: OVERRIDES"]),
        ("rate/levels", {}, ["study.factors.rate.levels is {}", "NAME: LEVEL"]),
        ("rate/arms/full", "trainers=sft", ["arm full is 'trainers=sft'", "a list of overrides"]),
        ("rate/arms/a@b", [], ["arm 'a@b'", "starts with a letter"]),
        ("rate/levels/slow", {"overrides": ["seed=1"]}, ["levels.slow has overrides", "at, overrides"]),
        ("rate/levels/slow/at", "low", ["levels.slow.at is 'low'", "the number of this level"]),
        ("rate/levels/slow/at", True, ["levels.slow.at is True"]),
        ("rate/levels/slow/at", float("nan"), ["levels.slow.at is nan"]),
        ("rate/levels/slow/overrides", [], ["levels.slow.overrides is empty", "what the level sets"]),
        ("rate/levels/slow/overrides", ["seed"], ["levels.slow.overrides is ['seed']", "KEY=VALUE"]),
        ("rate/levels/a@b", LEARNING_RATE["levels"]["slow"], ["levels.a@b", "letters, digits"]),
    ],
)
def test_a_malformed_factor_is_refused_with_what_to_write(path, value, parts):
    with pytest.raises(UsageError) as error:
        factors.arms_of_factors(changed(path, value))
    for part in parts:
        assert part in str(error.value)


def test_a_factor_whose_name_cannot_name_a_file_is_refused():
    with pytest.raises(UsageError, match=r"study\.factors\.a/b: the name of a factor starts with a letter"):
        factors.arms_of_factors({"a/b": LEARNING_RATE})


@pytest.fixture
def study_file(tmp_path):
    """The words that choose a study with the factor `rate`, beside an arm that no level changes."""
    (tmp_path / "ablations").mkdir()
    text = {"name": "rates", "baseline": "baseline", "full": "full@slow"}
    text |= {"arms": {"baseline": ["trainers=sft"]}, "factors": {"rate": LEARNING_RATE}}
    file = tmp_path / "ablations" / "rates.yaml"
    file.write_text("# @package _global_\n" + json.dumps({"study": text}), encoding="utf-8")
    outputs = f"outputs_dir={tmp_path / 'outputs'}"
    return ["ablations=rates", "preset=smoke", "study.name=rates", outputs, f"--config-dir={tmp_path}"]


def planned(words: list[str]) -> planning.Study:
    with composed(words) as root:
        lines = planning.expand(root.config, root.overrides)
        return planning.plan(root.config, GlobalHydra.instance().config_loader(), lines)


def test_a_study_with_a_factor_plans_its_arms_and_then_every_level(study_file):
    study = planned(study_file)
    names = ["baseline", "w_PI@slow", "full@slow", "w_PI@x_0.5", "full@x_0.5"]
    assert [cell.arm for cell in study.cells] == names
    cells = {cell.arm: cell for cell in study.cells}
    assert cells["full@x_0.5"].config["grpo"]["learning_rate"] == 0.5
    assert cells["full@x_0.5"].config["rewards"]["total"] != cells["w_PI@x_0.5"].config["rewards"]["total"]
    assert cells["full@x_0.5"].id.startswith("full@x_0.5-s0-")
    sft = {key(next(stage for stage in cell.stages if stage.name == "sft")) for cell in study.cells}
    assert len(sft) == 1


@pytest.mark.parametrize("words", ["arms=full@x_0.5,baseline", "arms=[full@x_0.5,baseline]"])
def test_arms_of_levels_can_be_chosen(study_file, words):
    assert [cell.arm for cell in planned([words, *study_file]).cells] == ["full@x_0.5", "baseline"]


def test_an_unknown_level_is_refused_with_the_nearest_arm(study_file):
    with pytest.raises(UsageError, match=r"unknown arm 'full@slov'\. Did you mean 'full@slow'\?"):
        planned(["arms=full@slov", *study_file])


def test_the_plan_keeps_the_factors_for_the_report(study_file):
    study = planned(study_file)
    planning.write_plan(study)
    plan = json.loads((study.folder / "plan.json").read_text())
    assert plan["study"]["factors"] == factors.facts({"rate": LEARNING_RATE})
    folders = {cell["folder"] for cell in plan["cells"]}
    assert len(folders) == 5 and all((study.folder / folder / "config.yaml").is_file() for folder in folders)


def test_names_of_levels_are_read_as_text():
    assert prepare(["arm=full@tau_0.60,full@2"]) == ["arms=full@tau_0.60,full@2"]


class Labeled:
    """An expert of a known quality."""

    def __init__(self, tau: float) -> None:
        self.label = f"judge (tau {tau})"


class Named:
    """An expert that is a model."""

    def __init__(self, model: Any) -> None:
        self.model = model


def _expert(kind: type, **settings: Any) -> str:
    inner = ",".join(f"{name}:{value}" for name, value in settings.items())
    return f"{{_target_:{__name__}.{kind.__name__},{inner}}}"


def _labels(*words: str) -> list[str]:
    return planned(["ablations=reward_components", "preset=smoke", *words]).facts["experts"]


def test_the_experts_of_the_rewards_are_named_once_and_only_where_a_total_uses_them():
    judge, grounder = f"judge={_expert(Labeled, tau=0.31)}", f"grounder={_expert(Named, model='a/model')}"
    assert _labels("arms=full", judge, grounder) == ["judge (tau 0.31)", "a/model"]
    assert _labels("arms=w_PI,w_PR", judge, grounder) == ["judge (tau 0.31)"]
    assert _labels("arms=w_RI", judge, grounder) == ["a/model"]
    assert _labels("arms=baseline", judge, grounder) == []


def test_experts_within_experts_are_named_and_those_without_a_label_are_not():
    inner = _expert(Labeled, tau=1)
    assert _labels("arms=w_RI", f"grounder={_expert(Named, model=inner)}") == ["judge (tau 1)"]
    assert _labels("arms=w_RI", f"grounder={_expert(Named, model=3)}") == []
