"""The loaded policy: records to ids, samples whole, only the drawing parts trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from mini_real_size import TINY
from mini_world import TEMPLATE, MiniBenchmark
from PIL import Image
from safetensors.torch import load_file

from harness import chain
from harness.types import Drawing, Prompt, Sampling
from policies.janus import engine, vq
from policies.janus.policy import JanusPolicy
from policies.janus.real_size import INDEX, write

RECORDS = MiniBenchmark(captions=[]).records(0, 5)


def test_records_become_ids_that_end_with_begin_of_image(policy: JanusPolicy) -> None:
    for record, tokens in zip(RECORDS, policy.encode(RECORDS), strict=True):
        assert tokens.prompt == policy._text.prompt_ids(record.prompt.text)
        assert policy._text.chain_text(tokens.chain) == record.chain
        assert tokens.chain[-1] == policy._text.boi and not tokens.forced_end
        assert tokens.image == vq.encode(policy.module.model.vqmodel, [record.image])[0]


def test_records_the_checkpoint_cannot_imitate_are_named(policy: JanusPolicy) -> None:
    with pytest.raises(
        ValueError, match="image of record 0 is 16x12, this checkpoint draws 12x12: give it that size"
    ):
        policy.encode([replace(RECORDS[0], image=Image.new("RGB", (16, 12)))])
    with pytest.raises(ValueError, match="chain of record 1 must end with <begin_of_image>, got 'no end'"):
        policy.encode([RECORDS[0], replace(RECORDS[1], chain="no end")])


def test_a_sample_holds_what_was_drawn(policy: JanusPolicy) -> None:
    prompt = Prompt(id="7", text="a red circle", category="color")
    (sample,) = policy.rollout([prompt], [11], Sampling(max_chain_tokens=8))
    assert sample.prompt is prompt and sample.seed == 11
    assert sample.chain == chain.parse(policy._text.chain_text(sample.tokens.chain))
    assert sample.tokens.prompt == policy._text.prompt_ids(prompt.text)
    assert len(sample.logprobs) == len(sample.tokens.chain) + len(sample.tokens.image)
    assert (
        sample.image.tobytes() == vq.decode(policy.module.model.vqmodel, [sample.tokens.image])[0].tobytes()
    )
    assert policy.rollout([], [], Sampling()) == []


def test_a_policy_measures_the_distributions_of_its_samples(policy: JanusPolicy) -> None:
    sampling = Sampling(guidance=3.0, max_chain_tokens=8)
    tokens = policy.encode(RECORDS)
    plain = policy.logprobs(tokens, sampling)
    measured = policy.logprobs(tokens, sampling, measures=("contrast", "entropy"))
    assert list(measured.measures) == ["contrast", "entropy"] and not plain.measures
    assert torch.equal(measured.values_BT, plain.values_BT)
    assert (measured.measures["entropy"] > 0).equal(measured.action_BT)
    assert (measured.measures["contrast"] != 0).equal(measured.image_BT)


def test_only_the_drawing_parts_are_trainable_and_only_when_asked(
    policy: JanusPolicy, janus_folder: Path
) -> None:
    trained = {
        name.split(".")[1] if name.startswith("model.") else name.split(".")[0]
        for name, one in named(policy)
        if one.requires_grad
    }
    assert trained == {
        "language_model",
        "lm_head",
        "generation_embeddings",
        "generation_aligner",
        "generation_head",
    }
    frozen = JanusPolicy(janus_folder, template=TEMPLATE)
    assert not any(one.requires_grad for _, one in named(frozen))


def named(policy: JanusPolicy) -> list[tuple[str, torch.nn.Parameter]]:
    return list(policy.module.named_parameters())


def test_bfloat16_products_keep_float32_weights_and_logprobs(policy: JanusPolicy, janus_folder: Path) -> None:
    fast = JanusPolicy(janus_folder, template=TEMPLATE, precision="bfloat16", trainable=True)
    tokens = policy.encode(RECORDS)
    with torch.no_grad():
        exact, rough = policy.logprobs(tokens, Sampling()), fast.logprobs(tokens, Sampling())
    assert {one.dtype for _, one in named(fast)} == {torch.float32} and rough.values_BT.dtype == torch.float32
    assert not torch.equal(exact.values_BT, rough.values_BT)
    assert torch.allclose(exact.values_BT, rough.values_BT, atol=0.5)


def test_without_plans_the_image_follows_the_prompt(janus_folder: Path) -> None:
    plain = JanusPolicy(janus_folder, template=TEMPLATE, plans=False)
    prompts = [Prompt(id="7", text="a red circle", category="color")] * 2
    samples = plain.rollout(prompts, [1, 2], Sampling(max_chain_tokens=8))
    for sample in samples:
        assert sample.tokens.chain == (plain._text.boi,) and sample.tokens.forced_end
        assert (sample.chain.text, sample.chain.objects, sample.chain.bare_text, sample.chain.faults) == (
            "",
            (),
            "",
            (),
        )
        assert len(sample.logprobs) == 1 + len(sample.tokens.image) and sample.logprobs[0] == 0.0
    scored = plain.logprobs([sample.tokens for sample in samples], Sampling())
    replayed = scored.values_BT[scored.action_BT]
    assert torch.allclose(
        replayed, torch.tensor([one for sample in samples for one in sample.logprobs[1:]]), atol=1e-4
    )


def test_without_plans_records_need_no_chain(janus_folder: Path) -> None:
    plain = JanusPolicy(janus_folder, template=TEMPLATE, plans=False)
    for tokens in plain.encode([replace(RECORDS[0], chain="no end"), RECORDS[1]]):
        assert tokens.chain == (plain._text.boi,) and tokens.forced_end


def test_bfloat16_weights_draw_and_score_what_they_drew(policy: JanusPolicy, janus_folder: Path) -> None:
    half = JanusPolicy(janus_folder, template=TEMPLATE, weights="bfloat16", trainable=True)
    prompts = [Prompt(id=text, text=text, category="color") for text in ("a red circle", "x")]
    samples = half.rollout(prompts, [1, 2], Sampling(guidance=2.0, max_chain_tokens=8))
    tokens = [sample.tokens for sample in samples]
    for sample in samples:
        assert (
            sample.image.tobytes()
            == vq.decode(policy.module.model.vqmodel, [sample.tokens.image])[0].tobytes()
        )
    rough, exact = (one.logprobs(tokens, Sampling(guidance=2.0)) for one in (half, policy))
    assert rough.values_BT.dtype == torch.float32 and rough.values_BT.requires_grad
    assert torch.allclose(rough.values_BT, exact.values_BT, atol=0.7)
    recorded = torch.tensor([logprob for sample in samples for logprob in sample.logprobs])
    replayed = torch.cat([rough.values_BT[row, : len(sample.logprobs)] for row, sample in enumerate(samples)])
    assert (replayed - recorded).abs().mean() < 0.05


def test_settings_of_the_likelihood_change_no_numbers(policy: JanusPolicy, janus_folder: Path) -> None:
    other = JanusPolicy(janus_folder, template=TEMPLATE, trainable=True, recompute=True, pack=200)
    tokens = policy.encode(RECORDS)
    assert torch.allclose(
        other.logprobs(tokens, Sampling()).values_BT, policy.logprobs(tokens, Sampling()).values_BT, atol=1e-4
    )


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("layout", ["published", "native", "pickled"])
def test_a_policy_that_only_draws_draws_the_same_and_keeps_little(
    layout: str, precision: str, tmp_path: Path, janus_folder: Path
) -> None:
    folder, template = janus_folder, TEMPLATE
    if layout != "native":
        folder = tmp_path
        write(folder, TINY)
    if layout == "pickled":
        (shard,) = folder.glob("model-*.safetensors")
        torch.save(load_file(shard), folder / "pytorch_model.bin")
        shard.unlink()
        (folder / INDEX).unlink()
    whole = JanusPolicy(folder, template=template, precision=precision)
    drawing = JanusPolicy(folder, template=template, precision=precision, draws_only=True)
    prompts = [Prompt(id=str(number), text="a red circle", category="color") for number in range(3)]
    sampling = Sampling(guidance=3.0, max_chain_tokens=6)
    for method in ("rollout", "write"):
        wanted, found = (getattr(policy, method)(prompts, [1, 2, 3], sampling) for policy in (whole, drawing))
        assert [vars(one) for one in found] == [vars(one) for one in wanted]
    chains = whole.write(prompts, [1, 2, 3], sampling)
    drawings = [
        Drawing(prompt=prompt, chain=written) for prompt, written in zip(prompts, chains, strict=True)
    ]
    wanted, found = (policy.draw(drawings, [1, 2, 3], sampling) for policy in (whole, drawing))
    assert [one.image.tobytes() for one in found] == [one.image.tobytes() for one in wanted]
    names = [name for name, _ in drawing.module.named_parameters()]
    assert not [name for name in names if ".vision_model." in name or ".encoder." in name or "_proj." in name]


def test_a_policy_that_only_draws_refuses_the_rest(janus_folder: Path, tmp_path: Path) -> None:
    policy = JanusPolicy(janus_folder, template=TEMPLATE, draws_only=True)
    for call in (
        lambda: policy.encode(RECORDS),
        lambda: policy.logprobs([], Sampling()),
        lambda: policy.save(tmp_path / "saved"),
    ):
        with pytest.raises(ValueError, match="loaded to draw only"):
            call()
    assert not (tmp_path / "saved").exists()


def test_kept_weights_are_laid_out_once(janus_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = JanusPolicy(janus_folder, template=TEMPLATE, draws_only=True)
    made = []
    monkeypatch.setattr(engine, "Projection", lambda *_: made.append(1))
    policy.write([Prompt(id="0", text="x", category="c")], [0], Sampling(max_chain_tokens=2))
    assert made == []


def test_every_step_is_reported_to_who_watches(policy: JanusPolicy) -> None:
    prompt, steps = Prompt(id="0", text="a red circle", category="c"), []
    policy.watch(lambda *step: steps.append(step))
    try:
        (sample,) = policy.rollout([prompt], [5], Sampling(max_chain_tokens=7))
    finally:
        policy.engine.on_step = None
    chain_steps, tokens = len(sample.tokens.chain) - sample.tokens.forced_end, len(sample.tokens.image)
    assert steps == [("chain", step + 1, 7) for step in range(chain_steps)] + [
        ("image", step + 1, tokens) for step in range(tokens)
    ]
