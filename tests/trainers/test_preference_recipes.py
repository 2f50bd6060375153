"""The stages of the trainers on preference pairs, and the settings that they refuse."""

from __future__ import annotations

from typing import Any

import pytest
from mini_world import BENCHMARK, DATA, DPO, GRPO, POLICY, REWARDS, ROLLOUT, SFT

from harness.stages.program import load_program
from harness.trainers.preference_recipes import Dpo, SftDpo
from harness.trainers.recipes import Sft, SftGrpo
from harness.types import Stage

START = Stage(name="tokenizer", program="x.y", settings={})
CONFIG = {
    "policies": POLICY,
    "benchmarks": BENCHMARK,
    "rewards": REWARDS,
    "rollout": ROLLOUT,
    "seed": 1,
    "sft_seed": 2,
}
LORA = {"rank": 2, "alpha": 4, "targets": ".*q_proj"}


def test_dpo_follows_the_sft_model_of_every_other_trainer() -> None:
    *sft, stage = SftDpo(sft=SFT, data=DATA, dpo=DPO).stages(CONFIG, START)
    assert sft == SftGrpo(sft=SFT, data=DATA, grpo=GRPO).stages(CONFIG, START)[:-1]
    assert sft == Sft(sft=SFT, data=DATA).stages(CONFIG, START)
    assert (stage.name, stage.inputs, stage.parallel) == ("dpo", {"start": sft[-1]}, DPO["pairs"])
    assert stage.settings == {
        "dpo": DPO,
        "rollout": ROLLOUT,
        "rewards": REWARDS,
        "policy": POLICY,
        "benchmark": BENCHMARK,
        "seed": 1,
    }
    assert load_program(stage.program).__module__ == "harness.trainers.dpo"


def test_dpo_alone_is_the_same_stage_on_the_policys_checkpoint() -> None:
    (alone,) = Dpo(dpo=DPO).stages(CONFIG, START)
    *_, after_sft = SftDpo(sft=SFT, data=DATA, dpo=DPO).stages(CONFIG, START)
    assert alone.inputs == {"start": START}
    assert (alone.program, alone.settings) == (after_sft.program, after_sft.settings)


def test_no_steps_of_sft_are_no_stages() -> None:
    (stage,) = SftDpo(sft=SFT | {"steps": 0}, data={"_target_": "nowhere.At"}, dpo=DPO).stages(CONFIG, START)
    assert stage.inputs == {"start": START}


def test_only_rewards_in_the_total_decide_the_stage() -> None:
    more = {"total": "low", "components": {**REWARDS["components"], "unused": {"_target_": "nowhere.At"}}}
    (plain,), (with_unused,) = (
        Dpo(dpo=DPO).stages({**CONFIG, "rewards": rewards}, START) for rewards in (REWARDS, more)
    )
    assert with_unused.settings == plain.settings


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "dpo.steps=0: give a whole number from 1"),
        ({"pairs": 0}, "dpo.pairs=0: give a whole number from 1"),
        ({"samples": 1}, "dpo.samples=1: a pair needs at least 2 samples of a prompt"),
        ({"beta": 0}, "dpo.beta=0: give a number above 0"),
        ({"beta": None}, "dpo.beta=None: give a number above 0"),
        (
            {"renew_every": 0},
            "dpo.renew_every=0: give a whole number from 1, or null for pairs of the start alone",
        ),
        (
            {"renew_every": 4},
            "dpo.renew_every=4 renews nothing in dpo.steps=4: give a smaller number, or null for pairs of the"
            " start alone",
        ),
        ({"learning_rate": 0}, "dpo.learning_rate=0: give a number above 0"),
        ({"warmup_steps": -1}, "dpo.warmup_steps=-1: give a whole number from 0"),
        ({"weight_decay": -1}, "dpo.weight_decay=-1: give a number from 0"),
        ({"max_grad_norm": 0}, "dpo.max_grad_norm=0: give a number above 0"),
        ({"checkpoint_every": None}, "dpo.checkpoint_every=None: give a whole number from 1"),
        ({"micro_batch": 0.5}, "dpo.micro_batch=0.5: give a whole number from 1"),
        ({"rollout_batch": 0}, "dpo.rollout_batch=0: give a whole number from 1"),
        ({"unscored_tolerance": 1.5}, "dpo.unscored_tolerance=1.5: give a share from 0 to 1"),
        ({"image_logprobs": "both"}, "dpo.image_logprobs='both': allowed are guided and conditional"),
        ({"lora": {"rank": 8}}, "dpo.lora={'rank': 8}: give null for full weights, or rank, alpha, targets"),
        ({"lora": LORA | {"rank": 0}}, "dpo.lora.rank=0: give a whole number from 1"),
    ],
    ids=str,
)
def test_wrong_dpo_settings(changes: dict[str, Any], message: str) -> None:
    for construct in (
        lambda: Dpo(dpo=DPO | changes),
        lambda: SftDpo(sft=SFT, data=DATA, dpo=DPO | changes),
    ):
        with pytest.raises(ValueError) as caught:
            construct()
        assert str(caught.value) == message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rollout": ROLLOUT | {"random": "upstream"}}, "rollout.random=upstream gives all samples"),
        ({"rollout": ROLLOUT | {"text_temperature": -1}}, "rollout.text_temperature=-1: give a number"),
        ({"rewards": REWARDS | {"total": "low*blue"}}, ".*blue"),
    ],
    ids=["upstream", "temperature", "total"],
)
def test_wrong_surroundings_are_refused_before_any_job(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Dpo(dpo=DPO).stages({**CONFIG, **changes}, START)


@pytest.mark.parametrize("changes", [{"renew_every": 3}, {"lora": LORA}, {"rollout_batch": 2}], ids=str)
def test_right_settings_pass(changes: dict[str, Any]) -> None:
    assert len(SftDpo(sft=SFT, data=DATA, dpo=DPO | changes).stages(CONFIG, START)) == 3
