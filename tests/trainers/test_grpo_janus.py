"""The `grpo` program on a tiny Janus: resuming, LoRA, guidance, and where the gradient goes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from mini_world import TEMPLATE, FakeWorkspace, grpo_settings
from safetensors.torch import load_file
from torch import Tensor

from harness.trainers import grpo
from policies.janus.policy import JanusPolicy

LORA = {"rank": 2, "alpha": 4, "targets": r".*language_model.*\.(q|v)_proj|model\.generation_head\.proj_out"}
GUIDED = {"guidance": 3.0, "text_temperature": 0.9}


def weights(work: FakeWorkspace) -> bytes:
    return (work.folder / "checkpoint" / "model.safetensors").read_bytes()


def changed(work: FakeWorkspace, janus_folder: Path) -> set[str]:
    before = load_file(janus_folder / "model.safetensors")
    after = load_file(work.folder / "checkpoint" / "model.safetensors")
    assert after.keys() == before.keys()
    return {name for name, value in after.items() if not torch.equal(value, before[name])}


@pytest.mark.parametrize(
    "settings",
    [
        grpo_settings(),
        grpo_settings(inner_epochs=2),
        grpo_settings(lora=LORA),
        grpo_settings(GUIDED, lora=LORA, inner_epochs=2),
    ],
    ids=["plain", "inner_epochs", "lora", "guided-lora-inner_epochs"],
)
@pytest.mark.parametrize("stop_at", [1, 3])
def test_an_interrupted_run_ends_in_the_same_bytes(train, settings: dict[str, Any], stop_at: int) -> None:
    whole = train(grpo.train, settings)
    resumed = train(grpo.train, settings, stop_at=stop_at)
    assert weights(resumed) == weights(whole)
    assert sorted(path.name for path in resumed.folder.iterdir()) == ["checkpoint", "training.pt"]
    assert [line["step"] for line in resumed.lines] == [
        *range(1, stop_at + 1),
        *range((stop_at - 1) // 2 * 2 + 1, 5),
    ]
    last = {line["step"]: {**line, "seconds": 0} for line in resumed.lines}
    assert list(last.values()) == [{**line, "seconds": 0} for line in whole.lines]


def test_an_unreadable_training_state_is_a_clear_error(train, janus_folder: Path, tmp_path: Path) -> None:
    work = FakeWorkspace(tmp_path / "stage")
    (work.folder / "training.pt").write_bytes(b"half a file")
    with pytest.raises(ValueError, match=r"cannot resume from .*training\.pt: delete it"):
        grpo.train(work, grpo_settings(), {"start": janus_folder.parent})


def test_chain_and_image_learn_and_the_reading_and_the_image_tokenizer_stay(
    train, janus_folder: Path
) -> None:
    names = changed(train(grpo.train, grpo_settings()), janus_folder)
    for part in (
        "lm_head",
        "model.language_model.embed_tokens",
        "model.generation_head",
        "model.generation_aligner",
    ):
        assert any(name.startswith(part) for name in names), part
    assert not [
        name for name in names if name.startswith(("model.vision_model", "model.vqmodel", "model.aligner"))
    ]


def test_lora_changes_its_targets_alone(train, janus_folder: Path) -> None:
    work = train(grpo.train, grpo_settings(lora=LORA))
    layers = {
        f"model.language_model.layers.{layer}.self_attn.{part}_proj.weight"
        for layer in (0, 1)
        for part in "qv"
    }
    assert changed(work, janus_folder) == {*layers, "model.generation_head.proj_out.weight"}
    assert work.lines[0]["kl"] == pytest.approx(0, abs=1e-7), "the adapters start as the frozen start"
    assert work.lines[-1]["kl"] > 1e-5


@pytest.mark.parametrize("rollout", [{}, GUIDED], ids=["plain", "guided"])
def test_the_replayed_distribution_is_the_sampled_one(train, rollout: dict[str, Any]) -> None:
    work = train(grpo.train, grpo_settings(rollout, steps=2))
    assert all(0 <= line["sampler_gap"] < 1e-5 for line in work.lines)


def test_conditional_scoring_of_guided_samples_trains_and_logs_how_far_off_it_is(train) -> None:
    work = train(grpo.train, grpo_settings(GUIDED, steps=2, image_logprobs="conditional"))
    assert all(line["sampler_gap"] > 0.05 for line in work.lines)


def test_the_micro_batch_changes_no_update(train) -> None:
    one = load_file(
        train(grpo.train, grpo_settings(steps=1, micro_batch=2)).folder / "checkpoint" / "model.safetensors"
    )
    other = load_file(
        train(grpo.train, grpo_settings(steps=1, micro_batch=9)).folder / "checkpoint" / "model.safetensors"
    )
    for name, value in one.items():
        # AdamW's first step is the sign of the gradient: where that is all but zero, rounding decides
        far = (value - other[name]).abs() > 1e-5
        assert far.float().mean() < 1e-2, name


@pytest.mark.parametrize("rollout", [{}, GUIDED], ids=["plain", "guided"])
def test_the_rollout_batch_changes_no_sample(train, rollout: dict[str, Any]) -> None:
    whole, parts = (
        train(grpo.train, grpo_settings(rollout, steps=2, rollout_batch=size)) for size in (None, 2)
    )
    for one, other in zip(whole.lines, parts.lines, strict=True):
        assert {**one, "seconds": 0} == pytest.approx({**other, "seconds": 0}, abs=1e-5)


def test_a_run_that_loses_its_judge_keeps_its_last_step_and_resumes_there(
    train, tmp_path: Path, janus_folder: Path
) -> None:
    """One prompt a step, and the reward says nothing of one of the four."""
    inputs = {"start": janus_folder.parent}
    tolerant, strict = (
        grpo_settings(prompts=1, steps=4, checkpoint_every=100, unscored_tolerance=share)
        for share in (1.0, 0.0)
    )
    whole = train(grpo.train, tolerant)
    work = FakeWorkspace(tmp_path / "stage")
    with pytest.raises(
        ValueError, match=r"3 of 3 samples of step \d have no reward: 3 x low: silent\. .*same command again"
    ):
        grpo.train(work, strict, inputs)
    reached = len(work.lines)
    assert 0 < reached < 4
    grpo.train(work, tolerant, inputs)
    assert [line["step"] for line in work.lines] == [1, 2, 3, 4], "no step was done twice"
    assert weights(work) == weights(whole)


def test_reward_rises_on_what_it_rewards(train) -> None:
    work = train(grpo.train, grpo_settings(steps=30, kl_weight=0.0, learning_rate=5e-3, samples=6))
    rewards = [line["reward"] for line in work.lines]
    assert sum(rewards[-5:]) > sum(rewards[:5]) + 0.1


def test_metrics_are_those_the_architecture_page_names(train) -> None:
    named = (
        "step, reward, component/low, at_0/low, at_1/low, spread/total, spread/low, loss, grad_norm,"
        " clip_fraction, kl, kl/chain, kl/image, entropy/chain, entropy/image, length/chain, chain_share,"
        " lr, sampler_gap, zero_spread_groups, zero_spread_share, unscored"
    )
    work = train(grpo.train, grpo_settings(steps=1, prompts=4))
    assert {*named.split(", "), "truncated_chains", "faulty_chains", "seconds", "total"} == set(work.lines[0])
    assert work.lines[0]["unscored"] == 3, "the three samples of the prompt whose reward says nothing"


def test_no_prompts_is_a_clear_error(train) -> None:
    settings = grpo_settings()
    settings["benchmark"] = {**settings["benchmark"], "captions": []}
    with pytest.raises(ValueError, match="no training prompts"):
        train(grpo.train, settings)


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_gradient_reaches_chain_and_image_tokens(janus_folder: Path, guidance: float) -> None:
    from dataclasses import replace

    from harness.types import Prompt, Sampling

    policy = JanusPolicy(janus_folder, template=TEMPLATE, trainable=True)
    sampling = Sampling(guidance=guidance, max_chain_tokens=8)
    samples = policy.rollout([Prompt(id="0", text="a red circle", category="color")] * 2, [1, 2], sampling)

    def gradients(which: str) -> dict[str, Tensor]:
        policy.module.zero_grad()
        scored = policy.logprobs([sample.tokens for sample in samples], replace(sampling))
        mask = scored.image_BT if which == "image" else scored.action_BT & ~scored.image_BT
        scored.values_BT[mask].sum().backward()
        return {
            name: one.grad
            for name, one in policy.module.named_parameters()
            if one.grad is not None and one.grad.any()
        }

    chain, image = gradients("chain"), gradients("image")
    assert "lm_head.weight" in chain and not [name for name in chain if name.startswith("model.generation")]
    assert "lm_head.weight" not in image and "model.generation_head.vision_head.weight" in image
    assert "model.language_model.layers.0.self_attn.q_proj.weight" in chain.keys() & image.keys()
