"""From settings to stages: what is refused, and what decides which stage."""

from __future__ import annotations

from typing import Any

import pytest
from mini_world import BENCHMARK, CAPTIONS, CHOSEN, POLICY, READ, ROLLOUT

from harness.stages.keys import key
from harness.study.cell import plan_stages

EVALUATION = {**CHOSEN, **READ, "images_per_prompt": 2, "batch_size": 3, "rollout": ROLLOUT}


def config() -> dict[str, Any]:
    from mini_world import DATA, REWARDS, SFT

    return {
        "policies": POLICY,
        "benchmarks": BENCHMARK,
        "rewards": REWARDS,
        "trainers": {
            "_target_": "harness.trainers.recipes.Sft",
            "_recursive_": False,
            "sft": SFT,
            "data": DATA,
        },
        "rollout": ROLLOUT,
        "evaluation": {**EVALUATION, "check": None},
        "seed": 0,
        "sft_seed": 0,
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"check": "mirror"},
            "evaluation.check=mirror: this benchmark cannot score mirrored images. Leave it null",
        ),
        ({"check": "mirrors"}, "evaluation.check='mirrors': allowed are mirror and null"),
        ({"batch_size": 0}, "evaluation.batch_size=0: give a whole number from 1"),
        ({"images_per_prompt": 1.5}, "evaluation.images_per_prompt=1.5: give a whole number from 1"),
        (
            {"rollout": ROLLOUT | {"random": "dice"}},
            "evaluation.rollout.random='dice': allowed are per_sample and upstream",
        ),
    ],
    ids=str,
)
def test_wrong_settings_are_refused_when_the_cell_is_planned(changes: dict[str, Any], message: str) -> None:
    given = config()
    assert [stage.name for stage in plan_stages(given)] == ["tokenizer", "tokens", "sft", "samples", "scores"]
    with pytest.raises(ValueError) as caught:
        plan_stages({**given, "evaluation": {**given["evaluation"], **changes}})
    assert str(caught.value) == message


def test_a_policy_of_pictures_gives_the_samples_itself() -> None:
    given = {**config(), "policies": {"_target_": "mini_reds.Album"}}
    given["evaluation"] = {**given["evaluation"], "images_per_prompt": None}
    with pytest.raises(
        ValueError, match=r"cannot be trained, but the trainer of trainers= trains\. Use trainers=frozen"
    ):
        plan_stages(given)
    samples, scores = plan_stages({**given, "trainers": {"_target_": "harness.trainers.recipes.Frozen"}})
    assert (samples.program, scores.inputs["samples"]) == ("json.dumps", samples)
    assert samples.settings["images_per_prompt"] == 1
    assert scores.settings == {"benchmark": BENCHMARK, "check": None} and scores.parallel == 0


def test_the_check_changes_the_scores_and_no_sample() -> None:
    given = {**config(), "benchmarks": {"_target_": "mini_reds.Reds"}}
    plain, checked = (
        plan_stages({**given, "evaluation": {**given["evaluation"], "check": check}})
        for check in (None, "mirror")
    )
    assert key(plain[-2]) == key(checked[-2]) and key(plain[-1]) != key(checked[-1])


def test_the_benchmarks_protocol_decides_how_many_images_and_which_seeds() -> None:
    benchmark = {**BENCHMARK, "_target_": "mini_reds.Protocoled", "captions": list(CAPTIONS[:2])}
    drawn = plan_stages(
        {**config(), "benchmarks": benchmark, "evaluation": {**EVALUATION, "images_per_prompt": None}}
    )[-2]
    assert drawn.settings["evaluation"]["images_per_prompt"] == 3
    assert drawn.settings["evaluation"]["first_seed"] == 42
    assert plan_stages(config())[-2].settings["evaluation"]["first_seed"] is None


@pytest.mark.parametrize(
    ("group", "bases"),
    [
        ("benchmarks", "harness.protocols.Benchmark. Write class Bare(Benchmark)"),
        (
            "policies",
            "harness.protocols.PolicyRecipe or harness.protocols.ImageSource. Write class Bare(PolicyRecipe)",
        ),
        ("trainers", "harness.protocols.Trainer. Write class Bare(Trainer)"),
    ],
)
def test_a_class_without_the_base_class_of_its_role_is_refused(group: str, bases: str) -> None:
    with pytest.raises(ValueError) as caught:
        plan_stages({**config(), group: {"_target_": "mini_reds.Bare"}})
    assert str(caught.value) == f"the class of {group}=, mini_reds.Bare, must be a subclass of {bases}"


def test_how_a_benchmark_scores_is_known_to_the_scores_alone() -> None:
    """A change of it draws and trains nothing anew."""

    def planned(mode: str) -> dict[str, Any]:
        benchmark = {**BENCHMARK, "_target_": "mini_reds.Scoring", "scoring": {"mode": mode}}
        return {stage.name: stage for stage in plan_stages({**config(), "benchmarks": benchmark})}

    one, other = planned("plain"), planned("other")
    assert [name for name in one if key(one[name]) != key(other[name])] == ["scores"]
    assert one["scores"].settings["benchmark"]["scoring"] == {"mode": "plain"}
    assert not [name for name, stage in one.items() if name != "scores" and "scoring" in str(stage.settings)]
