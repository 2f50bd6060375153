"""The `sft` program on a tiny Janus: its loss, the erased conditions, and resuming without any change."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from mini_world import BENCHMARK, SFT, TEMPLATE, FakeWorkspace, MiniBenchmark, sft_settings, with_ranks

from harness.data.tokens import TokenCache
from harness.seeds import derive
from harness.stages import ranks
from harness.trainers import sft
from harness.trainers.order import batch
from harness.types import Sampling, TokenLogprobs, Tokens
from policies.janus.policy import JanusPolicy


def weights(work: FakeWorkspace) -> bytes:
    return (work.folder / "checkpoint" / "model.safetensors").read_bytes()


@pytest.mark.parametrize("stop_at", [1, 3, 4, 5])
def test_an_interrupted_run_ends_in_the_same_bytes(train, stop_at: int) -> None:
    whole = train(sft.train, sft_settings())
    resumed = train(sft.train, sft_settings(), stop_at=stop_at)
    assert weights(resumed) == weights(whole)
    assert sorted(path.name for path in resumed.folder.iterdir()) == ["checkpoint", "training.pt"]
    steps = [line["step"] for line in resumed.lines]
    # the checkpoint of a step is written after it is reported, so the reported step is done again
    assert steps == [*range(1, stop_at + 1), *range((stop_at - 1) // 2 * 2 + 1, 6)]
    last = {line["step"]: {**line, "seconds": 0} for line in resumed.lines}
    assert list(last.values()) == [{**line, "seconds": 0} for line in whole.lines]


def test_the_loss_falls_and_only_the_drawing_parts_move(train, janus_folder: Path) -> None:
    work = train(sft.train, sft_settings(steps=25, learning_rate=5e-3))
    losses = [line["loss"] for line in work.lines]
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])
    before = JanusPolicy(janus_folder, template=TEMPLATE).module.state_dict()
    after = JanusPolicy(work.folder / "checkpoint", template=TEMPLATE).module.state_dict()
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    for part in (
        "model.language_model.embed_tokens",
        "model.generation_embeddings",
        "model.generation_aligner",
        "lm_head",
    ):
        assert any(name.startswith(part) for name in changed), part
    assert not [
        name for name in changed if name.startswith(("model.vision_model", "model.vqmodel", "model.aligner"))
    ]


def test_the_first_loss_is_the_mean_negative_log_likelihood(train, janus_folder: Path) -> None:
    work = train(sft.train, sft_settings(steps=1, condition_dropout=0.0))
    policy = JanusPolicy(janus_folder, template=TEMPLATE)
    settings = sft_settings()
    records = MiniBenchmark(captions=BENCHMARK["captions"]).records(
        derive(settings["seed"], "sft"), SFT["records"]
    )
    chosen = batch(policy.encode(records), SFT["batch_size"], 0, settings["seed"])
    chain, image = [], []
    for tokens in chosen:
        with torch.no_grad():
            values = policy.logprobs([tokens], Sampling()).values_BT[0].tolist()
        chain += values[: len(tokens.chain)]
        image += values[len(tokens.chain) :]
    line = work.lines[0]
    assert line["loss"] == pytest.approx(-sum(chain + image) / len(chain + image), abs=1e-4)
    assert line["loss_chain"] == pytest.approx(-sum(chain) / len(chain), abs=1e-4)
    assert line["loss_image"] == pytest.approx(-sum(image) / len(image), abs=1e-4)
    assert line["lr"] == pytest.approx(SFT["learning_rate"] / SFT["warmup_steps"])


@pytest.fixture
def trained_on(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Tokens, bool]]:
    """What the policy is trained on, as it comes: ids, and whether prompt and chain are erased."""
    seen: list[tuple[Tokens, bool]] = []
    real = JanusPolicy.logprobs

    def watched(
        self: JanusPolicy, tokens: Sequence[Tokens], sampling: Sampling, *, unconditional: Sequence[bool] = ()
    ) -> TokenLogprobs:
        seen.extend(zip(tokens, unconditional, strict=True))
        return real(self, tokens, sampling, unconditional=unconditional)

    monkeypatch.setattr(JanusPolicy, "logprobs", watched)
    return seen


def test_condition_dropout_erases_the_stated_share_the_same_in_every_run(
    train, trained_on: list[tuple[Tokens, bool]]
) -> None:
    train(sft.train, sft_settings(steps=40))
    erased = [one for _, one in trained_on]
    assert 0.25 < sum(erased) / len(erased) < 0.55
    expected = []
    for step in range(40):
        rng = random.Random(derive(5, "dropout", step))
        expected += [rng.random() < 0.4 for _ in range(SFT["batch_size"])]
    assert erased == expected
    trained_on.clear()
    train(sft.train, sft_settings(condition_dropout=0.0))
    assert not any(one for _, one in trained_on)


def test_chain_dropout_leaves_begin_of_image_alone_and_every_other_draw_as_it_was(
    train, trained_on: list[tuple[Tokens, bool]]
) -> None:
    train(sft.train, sft_settings(steps=40))
    whole = list(trained_on)
    trained_on.clear()
    train(sft.train, sft_settings(steps=40, chain_dropout=0.3))
    assert [erased for _, erased in trained_on] == [erased for _, erased in whole]
    dropped = [tokens != before for (tokens, _), (before, _) in zip(trained_on, whole, strict=True)]
    assert 0.2 < sum(dropped) / len(dropped) < 0.4
    for (tokens, _), (before, _), changed in zip(trained_on, whole, dropped, strict=True):
        assert (tokens.prompt, tokens.image) == (before.prompt, before.image)
        if changed:
            assert tokens.chain == before.chain[-1:] and tokens.forced_end
    both = sum(one and erased for one, (_, erased) in zip(dropped, trained_on, strict=True))
    assert both / len(dropped) == pytest.approx(0.3 * 0.4, abs=0.08), "drawn apart"


def test_a_begin_of_image_without_a_chain_carries_no_loss(train) -> None:
    work = train(sft.train, sft_settings(steps=1, condition_dropout=0.0, chain_dropout=0.999999))
    assert work.lines[0]["loss_chain"] is None
    assert work.lines[0]["loss"] == pytest.approx(work.lines[0]["loss_image"])


def test_only_chain_dropout_teaches_to_draw_without_a_chain(train, tokens_folder: Path) -> None:
    def loss_without_chain(work: FakeWorkspace) -> float:
        policy = JanusPolicy(work.folder / "checkpoint", template=TEMPLATE)
        rows = [replace(one, chain=one.chain[-1:], forced_end=True) for one in TokenCache(tokens_folder)]
        with torch.no_grad():
            scored = policy.logprobs(rows, Sampling())
        return -scored.values_BT[scored.action_BT].mean().item()

    settings = {"steps": 60, "learning_rate": 5e-3, "condition_dropout": 0.0}
    with_chains = train(sft.train, sft_settings(**settings))
    sometimes_without = train(sft.train, sft_settings(**settings, chain_dropout=0.3))
    assert loss_without_chain(sometimes_without) < 0.8 * loss_without_chain(with_chains)


def test_a_batch_that_is_erased_altogether_still_trains_its_images(train) -> None:
    work = train(sft.train, sft_settings(steps=1, condition_dropout=0.999999))
    assert work.lines[0]["loss_chain"] is None
    assert work.lines[0]["loss"] == pytest.approx(work.lines[0]["loss_image"])


def test_another_seed_is_another_run(train) -> None:
    assert weights(train(sft.train, sft_settings())) != weights(
        train(sft.train, {**sft_settings(), "seed": 6})
    )


@pytest.mark.parametrize("micro_batch", [1, 2, 3])
def test_micro_batches_change_nothing_but_rounding(train, micro_batch: int) -> None:
    whole, parts = (train(sft.train, sft_settings(micro_batch=size)).lines for size in (None, micro_batch))
    for one, other in zip(whole, parts, strict=True):
        assert {**other, "seconds": 0} == pytest.approx({**one, "seconds": 0}, rel=1e-3, abs=1e-5)
    if micro_batch == 3:
        assert [{**line, "seconds": 0} for line in parts] == [{**line, "seconds": 0} for line in whole]


def test_two_processes_with_sharded_layers_have_the_losses_of_one(
    janus_folder: Path, tokens_folder: Path, tmp_path: Path, train
) -> None:
    settings = sft_settings(batch_size=4, steps=4, fsdp=True, micro_batch=1)
    alone, together = train(sft.train, settings), FakeWorkspace(tmp_path / "together")
    inputs = {"start": janus_folder.parent, "tokens": tokens_folder}
    named = {name: str(folder) for name, folder in inputs.items()}
    work = ranks.ProgramCall(
        program="harness.trainers.sft.train", settings=settings, inputs=named, folder=str(together.folder)
    )
    with with_ranks(work, 2):
        sft.train(together, settings, inputs)
    assert sorted(path.name for path in together.folder.iterdir()) == ["checkpoint", "training.pt"]
    for one, two in zip(alone.lines, together.lines, strict=True):
        assert {**two, "seconds": 0} == pytest.approx({**one, "seconds": 0}, rel=1e-3, abs=1e-5)
    trained, same = (
        JanusPolicy(work.folder / "checkpoint", template=TEMPLATE).module.state_dict()
        for work in (alone, together)
    )
    for (
        name,
        value,
    ) in trained.items():  # where a gradient is all but zero, rounding decides the sign that AdamW follows
        assert ((value - same[name]).abs() > 1e-4).float().mean() < 0.02, name
