"""Every wrong setting of a trainer is refused when it is constructed, with its value and the remedy."""

from __future__ import annotations

from typing import Any

import pytest
from mini_world import BENCHMARK, GRPO, POLICY, REWARDS, ROLLOUT, SFT

from harness.trainers.recipes import Sft, SftGrpo
from harness.types import Stage

START = Stage(name="tokenizer", program="x.y", settings={})
CONFIG = {"policies": POLICY, "benchmarks": BENCHMARK, "rewards": REWARDS, "rollout": ROLLOUT, "seed": 1, "sft_seed": 2}


def test_sft_is_one_stage_seeded_by_sft_seed() -> None:
    (stage,) = Sft(sft=SFT).stages(CONFIG, START)
    assert (stage.name, stage.program) == ("sft", "harness.trainers.sft.train")
    assert stage.inputs == {"start": START}
    assert stage.settings == {"sft": SFT, "policy": POLICY, "benchmark": BENCHMARK, "seed": 2}


def test_grpo_follows_sft_and_is_seeded_by_seed() -> None:
    sft, grpo = SftGrpo(sft=SFT, grpo=GRPO).stages(CONFIG, START)
    assert [sft] == Sft(sft=SFT).stages(CONFIG, START)
    assert grpo.inputs == {"start": sft}
    assert grpo.settings["seed"] == 1 and grpo.settings["rollout"] == ROLLOUT


def test_only_rewards_in_the_total_decide_the_stage() -> None:
    more = {"total": "low", "components": {**REWARDS["components"], "unused": {"_target_": "nowhere.At"}}}
    _, plain = SftGrpo(sft=SFT, grpo=GRPO).stages(CONFIG, START)
    _, with_unused = SftGrpo(sft=SFT, grpo=GRPO).stages({**CONFIG, "rewards": more}, START)
    assert with_unused.settings == plain.settings


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "sft.steps=0: give a whole number from 1"),
        ({"steps": 2.5}, "sft.steps=2.5: give a whole number from 1"),
        ({"batch_size": "many"}, "sft.batch_size='many': give a whole number from 1"),
        ({"records": -3}, "sft.records=-3: give a whole number from 1"),
        ({"checkpoint_every": None}, "sft.checkpoint_every=None: give a whole number from 1"),
        ({"batch_size": 8}, "sft.batch_size=8 exceeds sft.records=7: lower it or give more records"),
        ({"warmup_steps": -1}, "sft.warmup_steps=-1: give a whole number from 0"),
        ({"learning_rate": 0.0}, "sft.learning_rate=0.0: give a number above 0"),
        ({"learning_rate": float("nan")}, "sft.learning_rate=nan: give a number above 0"),
        ({"max_grad_norm": float("inf")}, "sft.max_grad_norm=inf: give a number above 0"),
        ({"weight_decay": -0.1}, "sft.weight_decay=-0.1: give a number from 0"),
        ({"condition_dropout": 1.0}, "sft.condition_dropout=1.0: give a share from 0 to below 1"),
        ({"condition_dropout": -0.1}, "sft.condition_dropout=-0.1: give a number from 0"),
    ],
    ids=str,
)
def test_wrong_sft_settings(changes: dict[str, Any], message: str) -> None:
    for construct in (lambda: Sft(sft=SFT | changes), lambda: SftGrpo(sft=SFT | changes, grpo=GRPO)):
        with pytest.raises(ValueError) as caught:
            construct()
        assert str(caught.value) == message


LORA = {"rank": 2, "alpha": 4, "targets": ".*q_proj"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "grpo.steps=0: give a whole number from 1"),
        ({"prompts": 0}, "grpo.prompts=0: give a whole number from 1"),
        ({"samples": 1}, "grpo.samples=1: a group needs at least 2 samples to have an advantage"),
        ({"inner_epochs": 0}, "grpo.inner_epochs=0: give a whole number from 1"),
        ({"micro_batch": 0.5}, "grpo.micro_batch=0.5: give a whole number from 1"),
        ({"clip": 0}, "grpo.clip=0: give a number above 0"),
        ({"gap_tolerance": 0}, "grpo.gap_tolerance=0: give a number above 0"),
        ({"kl_weight": -1}, "grpo.kl_weight=-1: give a number from 0"),
        ({"kl_weight": True}, "grpo.kl_weight=True: give a number from 0"),
        ({"image_logprobs": "both"}, "grpo.image_logprobs='both': allowed are guided and conditional"),
        ({"lora": 8}, "grpo.lora=8: give null for full weights, or rank, alpha, targets"),
        ({"lora": {"rank": 8}}, "grpo.lora={'rank': 8}: give null for full weights, or rank, alpha, targets"),
        ({"lora": LORA | {"rank": 0}}, "grpo.lora.rank=0: give a whole number from 1"),
        ({"lora": LORA | {"targets": "("}}, "grpo.lora.targets='(': give a regular expression for names of layers"),
    ],
    ids=str,
)
def test_wrong_grpo_settings(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:
        SftGrpo(sft=SFT, grpo=GRPO | changes)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"text_temperature": -1}, "rollout.text_temperature=-1: give a number from 0"),
        ({"image_temperature": float("nan")}, "rollout.image_temperature=nan: give a number from 0"),
        ({"max_chain_tokens": 0}, "rollout.max_chain_tokens=0: give a whole number from 1"),
        ({"random": "dice"}, "rollout.random='dice': allowed are per_sample and upstream"),
    ],
    ids=str,
)
def test_wrong_rollout_settings(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:
        SftGrpo(sft=SFT, grpo=GRPO).stages({**CONFIG, "rollout": ROLLOUT | changes}, START)
    assert str(caught.value).startswith(message)


def test_wrong_totals_are_refused_before_any_job() -> None:
    with pytest.raises(ValueError, match="blue"):
        SftGrpo(sft=SFT, grpo=GRPO).stages({**CONFIG, "rewards": {**REWARDS, "total": "low*blue"}}, START)


@pytest.mark.parametrize("lora", [None, LORA], ids=str)
def test_right_settings_pass(lora: dict[str, Any] | None) -> None:
    assert len(SftGrpo(sft=SFT, grpo=GRPO | {"lora": lora}).stages(CONFIG, START)) == 2
