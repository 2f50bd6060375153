"""The engine draws the same samples in a batch as one at a time, and its log-probs are the model's."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from harness.types import Prompt, Sample, Sampling
from policies.janus.policy import JanusPolicy
from policies.janus.steps import Replayed

CAPTIONS = (
    "a red circle",
    "a blue square on the left of a red circle",
    "x",
    "a much longer caption that pads all others by many tokens",
)
PROMPTS = [Prompt(id=str(index), text=text, category="color") for index, text in enumerate(CAPTIONS * 3)]
SEEDS = list(range(len(PROMPTS)))
SAMPLED = Sampling(max_chain_tokens=24)
SETTINGS = [
    replace(SAMPLED, guidance=w, text_temperature=t, image_temperature=t)
    for w in (1.0, 3.0)
    for t in (0.0, 1.0, 0.7)
]


def naive(policy: JanusPolicy, sample: Sample, sampling: Sampling) -> list[torch.Tensor]:
    """Logits at every chain and image position by transformers' own forward, upstream's rows, no cache."""
    model, tokens = policy.module, sample.tokens
    bos, pad = policy._text.bos, policy._text.pad

    def hidden(ids: list[int], image: tuple[int, ...]) -> torch.Tensor:
        embeds = model.model.language_model.embed_tokens(torch.tensor([ids]))
        drawn = model.prepare_embeddings_for_image_generation(torch.tensor([image[:-1]]))
        return model.model.language_model(inputs_embeds=torch.cat((embeds, drawn), 1)).last_hidden_state[0]

    ids = [*tokens.prompt, *tokens.chain]
    conditional = hidden(ids, tokens.image)
    text = model.lm_head(conditional[len(tokens.prompt) - 1 : len(ids) - 1])
    image = model.model.generation_head(conditional[len(ids) - 1 :])
    if sampling.guidance > 1:
        erased = model.model.generation_head(
            hidden([bos, *[pad] * (len(ids) - 2), ids[-1]], tokens.image)[len(ids) - 1 :]
        )
        image = erased + sampling.guidance * (image - erased)
    return [*text, *image]


def naive_logprobs(policy: JanusPolicy, sample: Sample, sampling: Sampling) -> list[float]:
    ids = [*sample.tokens.chain, *sample.tokens.image]
    values = [
        torch.log_softmax(logits, -1)[id].item()
        for logits, id in zip(naive(policy, sample, sampling), ids, strict=True)
    ]
    return values


@pytest.mark.parametrize("sampling", SETTINGS, ids=str)
def test_a_batch_equals_one_at_a_time(policy: JanusPolicy, sampling: Sampling) -> None:
    together = policy.rollout(PROMPTS, SEEDS, sampling)
    assert len({len(sample.tokens.chain) for sample in together}) > 1, (
        "the chains must be ragged for this to test anything"
    )
    for prompt, seed, sample in zip(PROMPTS, SEEDS, together, strict=True):
        (alone,) = policy.rollout([prompt], [seed], sampling)
        assert alone.tokens == sample.tokens
        assert alone.logprobs == pytest.approx(sample.logprobs, abs=1e-4)


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_recorded_logprobs_are_the_models(policy: JanusPolicy, guidance: float) -> None:
    sampling = replace(SAMPLED, guidance=guidance)
    with torch.no_grad():
        for sample in policy.rollout(PROMPTS, SEEDS, sampling):
            expected = naive_logprobs(policy, sample, sampling)
            if sample.tokens.forced_end:
                expected[len(sample.tokens.chain) - 1] = 0.0
            assert sample.logprobs == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_greedy_takes_the_largest_logit(policy: JanusPolicy, guidance: float) -> None:
    sampling = replace(SAMPLED, guidance=guidance, text_temperature=0.0, image_temperature=0.0)
    with torch.no_grad():
        for sample in policy.rollout(PROMPTS[:4], SEEDS[:4], sampling):
            best = [int(logits.argmax()) for logits in naive(policy, sample, sampling)]
            drawn = [*sample.tokens.chain, *sample.tokens.image]
            if sample.tokens.forced_end:
                del best[len(sample.tokens.chain) - 1], drawn[len(sample.tokens.chain) - 1]
            assert drawn == best


@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_teacher_forcing_equals_the_record(policy: JanusPolicy, guidance: float, temperature: float) -> None:
    sampling = replace(
        SAMPLED, guidance=guidance, text_temperature=temperature, image_temperature=temperature
    )
    samples = policy.rollout(PROMPTS, SEEDS, sampling)
    with torch.no_grad():
        replayed = policy.logprobs([sample.tokens for sample in samples], sampling)
    for row, sample in enumerate(samples):
        action = replayed.action_BT[row]
        chain, image = sample.tokens.chain, sample.tokens.image
        assert int(action.sum()) == len(chain) + len(image) - sample.tokens.forced_end
        length = len(chain) + len(image)
        values = torch.where(action, replayed.values_BT[row], torch.zeros(()))[:length]
        assert values.tolist() == pytest.approx(sample.logprobs, abs=1e-4)


def test_a_forced_end_is_no_action(policy: JanusPolicy) -> None:
    sampling = replace(SAMPLED, max_chain_tokens=2)
    samples = policy.rollout(PROMPTS, SEEDS, sampling)
    forced = [sample for sample in samples if sample.tokens.forced_end]
    assert forced
    for sample in forced:
        assert len(sample.tokens.chain) == 3
        assert sample.logprobs[2] == 0.0
        scored = policy.logprobs([sample.tokens], sampling)
        assert scored.action_BT[0].tolist() == [True, True, False] + [True] * len(sample.tokens.image)


def test_upstreams_stream_draws_with_one_multinomial_a_step(policy: JanusPolicy) -> None:
    sampling = replace(SAMPLED, random="upstream")
    (sample,) = policy.rollout(PROMPTS[:1], [11], sampling)
    torch.manual_seed(11)
    with torch.no_grad():
        drawn = [
            int(torch.multinomial(torch.softmax(logits, -1), 1)) for logits in naive(policy, sample, sampling)
        ]
    assert not sample.tokens.forced_end
    assert drawn == [*sample.tokens.chain, *sample.tokens.image]


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_a_run_of_equal_prompts_and_seeds_is_one_call_of_upstreams(
    policy: JanusPolicy, guidance: float
) -> None:
    sampling = replace(SAMPLED, random="upstream", guidance=guidance)
    first, second = PROMPTS[0], PROMPTS[3]
    together = policy.rollout([first, first, first, second, second, first], [5, 5, 5, 5, 9, 9], sampling)
    calls = [([first] * 3, [5] * 3), ([second], [5]), ([second], [9]), ([first], [9])]
    separate = [sample for prompts, seeds in calls for sample in policy.rollout(prompts, seeds, sampling)]
    assert [sample.tokens for sample in together] == [sample.tokens for sample in separate]
    assert len({sample.tokens.chain for sample in together[:3]}) == 1
    assert len({sample.tokens.image for sample in together[:3]}) == 3
    with torch.no_grad():
        for sample in together:
            expected = naive_logprobs(policy, sample, sampling)
            if sample.tokens.forced_end:
                expected[len(sample.tokens.chain) - 1] = 0.0
            assert sample.logprobs == pytest.approx(expected, abs=1e-4)


def test_the_images_of_a_call_are_drawn_by_one_multinomial_a_step(policy: JanusPolicy) -> None:
    sampling = replace(SAMPLED, random="upstream", image_temperature=0.8)
    samples = policy.rollout(PROMPTS[:1] * 3, [11] * 3, sampling)
    torch.manual_seed(11)
    with torch.no_grad():
        rows = [naive(policy, sample, sampling) for sample in samples]
        length = len(samples[0].tokens.chain)
        assert not samples[0].tokens.forced_end
        chain = [int(torch.multinomial(torch.softmax(logits, -1), 1)) for logits in rows[0][:length]]
        steps = [torch.stack(logits) for logits in zip(*(row[length:] for row in rows), strict=True)]
        images = [
            torch.multinomial(torch.softmax(logits / 0.8, -1), 1).squeeze(1).tolist() for logits in steps
        ]
    assert chain == list(samples[0].tokens.chain)
    assert [list(image) for image in zip(*images, strict=True)] == [
        list(sample.tokens.image) for sample in samples
    ]


@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("runs", [(4, 4), (4, 2), (3, 1, 2)], ids=str)
def test_samples_of_one_prompt_equal_those_drawn_alone(
    policy: JanusPolicy, runs: tuple[int, ...], guidance: float
) -> None:
    sampling = replace(SAMPLED, guidance=guidance)
    prompts = [PROMPTS[index] for index, count in enumerate(runs) for _ in range(count)]
    together = policy.rollout(prompts, SEEDS[: len(prompts)], sampling)
    for prompt, seed, sample in zip(prompts, SEEDS, together, strict=False):
        (alone,) = policy.rollout([prompt], [seed], sampling)
        assert alone.tokens == sample.tokens
        assert alone.logprobs == pytest.approx(sample.logprobs, abs=1e-4)


@pytest.mark.parametrize("random", ["per_sample", "upstream"])
@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_steps_at_fixed_shapes_draw_the_same(
    policy: JanusPolicy, guidance: float, random: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sampling = replace(SAMPLED, guidance=guidance, random=random)
    prompts, seeds = [PROMPTS[0], PROMPTS[0], *PROMPTS[:4]], [3, 3, 4, 5, 6, 7]
    sliced = policy.rollout(prompts, seeds, sampling)
    monkeypatch.setattr(policy.engine, "steps", Replayed)
    for bucket in (1, 4, 128):
        monkeypatch.setattr(Replayed, "bucket", bucket)
        replayed = policy.rollout(prompts, seeds, sampling)
        assert [sample.tokens for sample in replayed] == [sample.tokens for sample in sliced]
        for one, other in zip(replayed, sliced, strict=True):
            assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)


@pytest.mark.parametrize("random", ["per_sample", "upstream"])
@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_without_a_chain_the_image_follows_the_prompt(
    policy: JanusPolicy, guidance: float, random: str
) -> None:
    sampling = Sampling(guidance=guidance, max_chain_tokens=0, random=random)
    engine = policy.engine
    prompts = [policy._text.prompt_ids(prompt.text) for prompt in PROMPTS[:4]]
    drawn = engine.rollout([*prompts, prompts[-1]], [1, 2, 3, 4, 4], sampling)
    for tokens, logprobs in zip(drawn.tokens, drawn.logprobs, strict=True):
        assert tokens.forced_end and tokens.chain == (policy._text.boi,)
        assert len(logprobs) == 1 + engine.image_tokens and logprobs[0] == 0.0
    replayed = policy.logprobs(drawn.tokens, sampling)
    for row, logprobs in zip(
        torch.where(replayed.action_BT, replayed.values_BT, torch.zeros(())), drawn.logprobs, strict=True
    ):
        assert row.tolist() == pytest.approx(logprobs, abs=1e-4)
    assert (drawn.tokens[3].image == drawn.tokens[4].image) == (random == "per_sample")


def test_every_rollout_reads_the_current_weights(policy: JanusPolicy) -> None:
    before = policy.rollout(PROMPTS[:4], SEEDS[:4], SAMPLED)
    weight = policy.module.model.language_model.layers[0].mlp.up_proj.weight
    kept = weight.detach().clone()
    with torch.no_grad():
        weight.mul_(-3)
        changed = policy.rollout(PROMPTS[:4], SEEDS[:4], SAMPLED)
        expected = [naive_logprobs(policy, sample, SAMPLED) for sample in changed]
        weight.copy_(kept)
    assert [sample.tokens for sample in changed] != [sample.tokens for sample in before]
    for sample, logprobs in zip(changed, expected, strict=True):
        assert [value for value in sample.logprobs if value] == pytest.approx(
            [value for value, kept in zip(logprobs, sample.logprobs, strict=True) if kept], abs=1e-4
        )
    assert [sample.tokens for sample in policy.rollout(PROMPTS[:4], SEEDS[:4], SAMPLED)] == [
        sample.tokens for sample in before
    ]


def test_seeds_decide_the_draw(policy: JanusPolicy) -> None:
    first, second, again = policy.rollout(PROMPTS[:1] * 3, [1, 2, 1], SAMPLED)
    assert first.tokens == again.tokens
    assert first.tokens != second.tokens


def test_unconditional_rows_score_images_only(policy: JanusPolicy) -> None:
    samples = policy.rollout(PROMPTS[:3], SEEDS[:3], SAMPLED)
    tokens = [sample.tokens for sample in samples]
    with torch.no_grad():
        mixed = policy.logprobs(tokens, SAMPLED, unconditional=[True, False, True])
        plain = policy.logprobs(tokens, SAMPLED)
    assert int(mixed.action_BT[0].sum()) == len(tokens[0].image)
    assert torch.equal(mixed.action_BT[1], plain.action_BT[1])
    assert torch.allclose(mixed.values_BT[1], plain.values_BT[1], atol=1e-5)
    assert not torch.allclose(mixed.values_BT[0][mixed.image_BT[0]], plain.values_BT[0][plain.image_BT[0]])


def test_no_gradient_reaches_a_forced_end(policy: JanusPolicy) -> None:
    sampling = replace(SAMPLED, max_chain_tokens=2)
    sample = next(sample for sample in policy.rollout(PROMPTS, SEEDS, sampling) if sample.tokens.forced_end)
    scored = policy.logprobs([sample.tokens], sampling)
    policy.module.zero_grad()
    scored.values_BT[0, 2].backward() if scored.values_BT[0, 2].requires_grad else None
    assert all(p.grad is None or not p.grad.any() for p in policy.module.parameters())
    assert scored.values_BT[0, 2] == 0
