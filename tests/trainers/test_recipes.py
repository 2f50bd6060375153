"""Every wrong setting of a trainer is refused when it is constructed, with its value and the remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hydra.errors import InstantiationException
from mini_got import record, settings, source, write_lines, write_tar
from mini_world import BENCHMARK, DATA, GRPO, POLICY, REWARDS, ROLLOUT, SFT

from harness.composition.arguments import explain
from harness.stages.keys import key
from harness.trainers.recipes import Frozen, Grpo, Sft, SftGrpo
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


def test_sft_is_encoding_then_training_seeded_by_sft_seed() -> None:
    tokens, stage = Sft(sft=SFT, data=DATA).stages(CONFIG, START)
    assert (tokens.name, tokens.program) == ("tokens", "harness.data.tokens.encode")
    assert tokens.inputs == {"start": START}
    assert tokens.settings == {"data": DATA, "listing": [], "policy": POLICY, "records": 7, "seed": 2}
    assert (stage.name, stage.program) == ("sft", "harness.trainers.sft.train")
    assert stage.inputs == {"start": START, "tokens": tokens}
    assert stage.settings == {"sft": SFT, "policy": POLICY, "seed": 2}
    assert (tokens.parallel, stage.parallel) == (0, 3)


def test_no_steps_of_sft_are_no_stages() -> None:
    none = SFT | {"steps": 0}
    assert Sft(sft=none, data=DATA).stages(CONFIG, START) == []
    (grpo,) = SftGrpo(sft=none, data={"_target_": "nowhere.At"}, grpo=GRPO).stages(CONFIG, START)
    assert grpo.inputs == {"start": START}


def test_what_is_encoded_from_files_depends_on_their_contents_and_no_seed(tmp_path: Path) -> None:
    lines, tar = write_lines(tmp_path / "a.jsonl", [record(0)]), write_tar(tmp_path / "0.tar", [0])
    recipe = Sft(sft=SFT | {"records": None}, data=settings({"lahr": source(lines, tar)}))

    def tokens(**changes: Any) -> Stage:
        return recipe.stages({**CONFIG, **changes}, START)[0]

    first = tokens()
    assert first.external == (str(lines),)
    assert first.settings["listing"] == [["0.tar", tar.stat().st_size]]
    before = key(first)
    assert key(tokens(sft_seed=9)) == before
    write_lines(lines, [record(1)])
    assert key(tokens()) != before


def test_settings_of_training_alone_do_not_encode_records_again() -> None:
    config = {**CONFIG, "policies": {"_target_": "mini_got.PixelRecipe"}}
    data = {**DATA, "benchmark": {"_target_": "mini_got.Filed"}}
    tokens, _ = Sft(sft=SFT, data=data).stages(config, START)
    assert tokens.settings["policy"] == {"_target_": "mini_got.PixelRecipe", "pack": None}
    assert tokens.external == ("prompts.txt",)


def test_grpo_follows_sft_and_is_seeded_by_seed() -> None:
    *sft, grpo = SftGrpo(sft=SFT, data=DATA, grpo=GRPO).stages(CONFIG, START)
    assert sft == Sft(sft=SFT, data=DATA).stages(CONFIG, START)
    assert grpo.inputs == {"start": sft[-1]}
    assert grpo.settings["seed"] == 1 and grpo.settings["rollout"] == ROLLOUT


def test_grpo_alone_is_the_same_stage_on_the_policys_checkpoint() -> None:
    (alone,) = Grpo(grpo=GRPO).stages(CONFIG, START)
    *_, after_sft = SftGrpo(sft=SFT, data=DATA, grpo=GRPO).stages(CONFIG, START)
    assert alone.inputs == {"start": START}
    assert (alone.program, alone.settings) == (after_sft.program, after_sft.settings)


def test_frozen_trains_nothing() -> None:
    assert Frozen().stages(CONFIG, START) == []


def test_only_rewards_in_the_total_decide_the_stage() -> None:
    more = {"total": "low", "components": {**REWARDS["components"], "unused": {"_target_": "nowhere.At"}}}
    *_, plain = SftGrpo(sft=SFT, data=DATA, grpo=GRPO).stages(CONFIG, START)
    *_, with_unused = SftGrpo(sft=SFT, data=DATA, grpo=GRPO).stages({**CONFIG, "rewards": more}, START)
    assert with_unused.settings == plain.settings


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": -1}, "sft.steps=-1: give a whole number from 0"),
        ({"steps": 2.5}, "sft.steps=2.5: give a whole number from 0"),
        ({"micro_batch": 0}, "sft.micro_batch=0: give a whole number from 1"),
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
        ({"condition_dropout": -0.1}, "sft.condition_dropout=-0.1: give a share from 0 to below 1"),
        ({"chain_dropout": 1.0}, "sft.chain_dropout=1.0: give a share from 0 to below 1"),
        ({"chain_dropout": None}, "sft.chain_dropout=None: give a share from 0 to below 1"),
        ({"fsdp": "yes"}, "sft.fsdp='yes': give true or false"),
    ],
    ids=str,
)
def test_wrong_sft_settings(changes: dict[str, Any], message: str) -> None:
    for construct in (
        lambda: Sft(sft=SFT | changes, data=DATA),
        lambda: SftGrpo(sft=SFT | changes, data=DATA, grpo=GRPO),
    ):
        with pytest.raises(ValueError) as caught:
            construct()
        assert str(caught.value) == message


def test_all_records_of_an_endless_stream_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"sft\.records=null means all records, and those of this data= have no end"
    ):
        Sft(sft=SFT | {"records": None}, data=DATA).stages(CONFIG, START)


def test_a_policy_without_chains_has_none_to_drop() -> None:
    config = {**CONFIG, "policies": {"_target_": "mini_got.PixelRecipe"}}
    assert Sft(sft=SFT, data=DATA).stages(config, START)
    with pytest.raises(ValueError, match=r"sft\.chain_dropout=0\.1: this policy writes no chains"):
        Sft(sft=SFT | {"chain_dropout": 0.1}, data=DATA).stages(config, START)


LORA = {"rank": 2, "alpha": 4, "targets": ".*q_proj"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "grpo.steps=0: give a whole number from 1"),
        ({"prompts": 0}, "grpo.prompts=0: give a whole number from 1"),
        ({"samples": 1}, "grpo.samples=1: a group needs at least 2 samples to have an advantage"),
        ({"inner_epochs": 0}, "grpo.inner_epochs=0: give a whole number from 1"),
        ({"micro_batch": 0.5}, "grpo.micro_batch=0.5: give a whole number from 1"),
        ({"rollout_batch": 0}, "grpo.rollout_batch=0: give a whole number from 1"),
        ({"unscored_tolerance": -0.1}, "grpo.unscored_tolerance=-0.1: give a share from 0 to 1"),
        ({"unscored_tolerance": 1.5}, "grpo.unscored_tolerance=1.5: give a share from 0 to 1"),
        ({"gap_tolerance": 0}, "grpo.gap_tolerance=0: give a number above 0"),
        ({"kl_weight": -1}, "grpo.kl_weight=-1: give a number from 0"),
        ({"kl_weight": True}, "grpo.kl_weight=True: give a number from 0"),
        ({"image_logprobs": "both"}, "grpo.image_logprobs='both': allowed are guided and conditional"),
        ({"lora": 8}, "grpo.lora=8: give null for full weights, or rank, alpha, targets"),
        ({"lora": {"rank": 8}}, "grpo.lora={'rank': 8}: give null for full weights, or rank, alpha, targets"),
        ({"lora": LORA | {"rank": 0}}, "grpo.lora.rank=0: give a whole number from 1"),
        (
            {"lora": LORA | {"targets": "("}},
            "grpo.lora.targets='(': give a regular expression for names of layers",
        ),
    ],
    ids=str,
)
def test_wrong_grpo_settings(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:
        SftGrpo(sft=SFT, data=DATA, grpo=GRPO | changes)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"text_temperature": -1}, "rollout.text_temperature=-1: give a number from 0"),
        ({"image_temperature": float("nan")}, "rollout.image_temperature=nan: give a number from 0"),
        ({"max_chain_tokens": -1}, "rollout.max_chain_tokens=-1: give a whole number from 0"),
        ({"random": "dice"}, "rollout.random='dice': allowed are per_sample and upstream"),
        ({"random": "upstream"}, "rollout.random=upstream gives all samples of a prompt one chain"),
    ],
    ids=str,
)
def test_wrong_rollout_settings(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:
        SftGrpo(sft=SFT, data=DATA, grpo=GRPO).stages({**CONFIG, "rollout": ROLLOUT | changes}, START)
    assert str(caught.value).startswith(message)


def test_wrong_totals_are_refused_before_any_job() -> None:
    with pytest.raises(ValueError, match="blue"):
        SftGrpo(sft=SFT, data=DATA, grpo=GRPO).stages(
            {**CONFIG, "rewards": {**REWARDS, "total": "low*blue"}}, START
        )


@pytest.mark.parametrize("lora", [None, LORA], ids=str)
def test_right_settings_pass(lora: dict[str, Any] | None) -> None:
    assert len(SftGrpo(sft=SFT, data=DATA, grpo=GRPO | {"lora": lora}).stages(CONFIG, START)) == 3


TOKEN = {"_target_": "harness.trainers.ratio.TokenRatio", "clip_low": 0.2, "clip_high": 0.2}
CISPO = {"_target_": "harness.trainers.ratio.Cispo", "clip_low": None, "clip_high": 4.0}
GDPO = {"_target_": "harness.trainers.advantage.Gdpo", "weights": {}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"credit": "both"}, "grpo.credit='both': allowed are total, causal, split, chain, image"),
        ({"aggregate": "mean"}, "grpo.aggregate='mean': allowed are sample, token, fixed, stage"),
        ({"advantage_clip": 0}, "grpo.advantage_clip=0: give a number above 0, or null for no bound"),
        ({"advantage": "group"}, "advantage='group': choose one with advantage=NAME"),
        ({"advantage": TOKEN}, "ratio.TokenRatio, must be a subclass of harness.protocols.Advantage"),
        ({"ratio": GDPO}, "advantage.Gdpo, must be a subclass of harness.protocols.Ratio"),
        (
            {"ratio": {**TOKEN, "clip_low": 0}},
            "ratio.clip_low=0: give a number above 0, or null for no bound",
        ),
        ({"ratio": CISPO}, "Cispo: with grpo.inner_epochs=1 all ratios are 1, so it has no effect"),
        ({"ratio": {**TOKEN, "clip_high": 0.28}}, "clip_high is not the default: with grpo.inner_epochs=1"),
        ({"ratio": {**TOKEN, "dual_clip": 3.0}}, "ratio.dual_clip=3.0: with grpo.inner_epochs=1"),
        ({"kl": "k2", "kl_weight": 0}, "grpo.kl=k2 has no effect with grpo.kl_weight=0"),
        ({"kl": "reward", "advantage": GDPO}, "grpo.kl=reward takes the KL off the total"),
        ({"truncated": "penalise", "advantage": GDPO}, "grpo.truncated=penalise lowers the total"),
        ({"truncated": "penalise", "credit": "image"}, "grpo.credit=image trains none of them"),
        ({"resample_batches": 3}, "grpo.resample_batches=3 has no effect without grpo.zero_spread=resample"),
        ({"token_weights": "guidance", "image_logprobs": "conditional"}, "conditional has only one"),
        ({"token_weights": "guidance", "credit": "chain"}, "grpo.credit=chain trains none of them"),
    ],
    ids=str,
)
def test_variants_that_cannot_act_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, InstantiationException)) as caught:
        Grpo(grpo=GRPO | changes)
    assert message in explain(caught.value)


def test_variants_that_can_act_are_accepted() -> None:
    for ratio in (CISPO, {**TOKEN, "clip_high": 0.28}):
        Grpo(grpo=GRPO | {"inner_epochs": 2, "ratio": ratio})
    Grpo(grpo=GRPO | {"zero_spread": "resample", "resample_batches": 3, "kl_weight": 0})


@pytest.mark.parametrize(
    ("changes", "rollout", "message"),
    [
        ({"token_weights": "guidance"}, {}, "token_weights=guidance has no effect with rollout.guidance=1.0"),
        ({"truncated": "mask"}, {"max_chain_tokens": 0}, "truncated=mask has no effect with"),
        ({"credit": "causal"}, {}, "grpo.credit=causal equals total here: rewards.total='low' names no"),
        ({"advantage": {**GDPO, "weights": {"high": 1.0}}}, {}, "advantage.weights.high has no effect"),
    ],
    ids=str,
)
def test_variants_that_do_not_fit_rollouts_or_rewards_are_refused(
    changes: dict[str, Any], rollout: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError) as caught:
        Grpo(grpo=GRPO | changes).stages({**CONFIG, "rollout": ROLLOUT | rollout}, START)
    assert message in str(caught.value)


def test_an_empty_part_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    Grpo(grpo=GRPO | {"credit": "split"}).stages(CONFIG, START)
    assert "rewards nothing of the chain: only the KL acts there" in capsys.readouterr().err
    with pytest.raises(ValueError, match=r"rewards\.scopes has no effect with grpo\.credit=total"):
        Grpo(grpo=GRPO).stages({**CONFIG, "rewards": {**REWARDS, "scopes": {"low": "image"}}}, START)


@pytest.mark.parametrize(
    ("total", "is_said"),
    [("low", False), ("(low + red) / 2", False), ("low * red", True), ("low + 2 * red", True)],
)
def test_gdpo_says_that_a_total_other_than_a_sum_is_not_used(
    total: str, is_said: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    components = {**REWARDS["components"], "red": {"_target_": "mini_world.LowCodes", "silent": "y"}}
    rewards = {"total": total, "components": components}
    Grpo(grpo=GRPO | {"advantage": GDPO}).stages({**CONFIG, "rewards": rewards}, START)
    assert ("is not used" in capsys.readouterr().err) is is_said
