"""Drawing from chains that are given: a written chain gives the rollout's sample, a text gives its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from mini_world import TEMPLATE

from harness.chain import END
from harness.types import Drawing, Prompt, Sample, SampledChain, Sampling
from policies.janus.policy import JanusPolicy
from policies.janus.steps import Replayed

CAPTIONS = ("a red circle", "a blue square on the left of a red circle", "x")
PROMPTS = [Prompt(id=str(index), text=text, category="color") for index, text in enumerate(CAPTIONS * 3)]
SEEDS = list(range(len(PROMPTS)))
SAMPLED = Sampling(max_chain_tokens=24)
SETTINGS = [
    replace(SAMPLED, guidance=guidance, text_temperature=temperature, image_temperature=temperature)
    for guidance in (1.0, 3.0)
    for temperature in (0.0, 1.0, 0.7)
]


def drawings(chains: list[SampledChain], prompts: list[Prompt] = PROMPTS) -> list[Drawing]:
    return [Drawing(prompt=prompt, chain=chain) for prompt, chain in zip(prompts, chains, strict=True)]


def check_equal(found: list[Sample], wanted: list[Sample]) -> None:
    assert [sample.tokens for sample in found] == [sample.tokens for sample in wanted]
    for left, right in zip(found, wanted, strict=True):
        assert left.logprobs == pytest.approx(right.logprobs, abs=1e-4)
        assert left.image.tobytes() == right.image.tobytes()
        assert (left.prompt, left.chain, left.seed) == (right.prompt, right.chain, right.seed)


@pytest.mark.parametrize("sampling", SETTINGS, ids=str)
def test_a_rollout_equals_what_is_drawn_from_its_chains(policy: JanusPolicy, sampling: Sampling) -> None:
    rolled = policy.rollout(PROMPTS, SEEDS, sampling)
    written = policy.write(PROMPTS, SEEDS, sampling)
    for sample, chain in zip(rolled, written, strict=True):
        assert (chain.chain, chain.ids) == (sample.chain, sample.tokens.chain)
        assert chain.logprobs == sample.logprobs[: len(chain.ids)]
        assert chain.forced_end == sample.tokens.forced_end
    check_equal(policy.draw(drawings(written), SEEDS, sampling), rolled)
    backwards = policy.draw(drawings(written)[::-1], SEEDS[::-1], sampling)
    check_equal(backwards[::-1], rolled)


def test_chains_that_were_cut_are_replayed_with_their_forced_end(policy: JanusPolicy) -> None:
    sampling = replace(SAMPLED, max_chain_tokens=4)
    rolled = policy.rollout(PROMPTS, SEEDS, sampling)
    written = policy.write(PROMPTS, SEEDS, sampling)
    cut = [chain for chain in written if chain.forced_end]
    assert len(cut) > 0
    check_equal(policy.draw(drawings(written), SEEDS, sampling), rolled)
    with pytest.raises(ValueError, match=r"has 4 ids and was cut there, and rollout\.max_chain_tokens=9"):
        policy.draw([Drawing(prompt=PROMPTS[0], chain=cut[0])], [0], replace(sampling, max_chain_tokens=9))


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_several_images_of_one_chain_equal_those_drawn_one_by_one(
    policy: JanusPolicy, guidance: float
) -> None:
    sampling = replace(SAMPLED, guidance=guidance)
    first, second = drawings(policy.write(PROMPTS[:2], SEEDS[:2], sampling), PROMPTS[:2])
    several = [first] * 4 + [second] * 2
    seeds = [3, 1, 4, 1, 5, 9]
    together = policy.draw(several, seeds, sampling)
    alone = []
    for drawing, seed in zip(several, seeds, strict=True):
        alone += policy.draw([drawing], [seed], sampling)
    check_equal(together, alone)
    assert together[1].tokens == together[3].tokens and together[0].tokens.image != together[1].tokens.image


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_upstreams_stream_stands_where_the_rollouts_would(policy: JanusPolicy, guidance: float) -> None:
    sampling = replace(SAMPLED, random="upstream", guidance=guidance)
    first, second = PROMPTS[0], PROMPTS[1]
    prompts, seeds = [first, first, first, second, second], [5, 5, 5, 5, 9]
    written = policy.write(prompts, seeds, sampling)
    assert written[0] == written[1] == written[2]
    rolled = policy.rollout(prompts, seeds, sampling)
    check_equal(policy.draw(drawings(written, prompts), seeds, sampling), rolled)


def test_upstreams_stream_begins_with_the_image_of_a_text(policy: JanusPolicy) -> None:
    sampling = replace(SAMPLED, random="upstream")
    drawing = Drawing(prompt=PROMPTS[0], chain=f"A red circle.{END}")
    (sample,) = policy.draw([drawing], [11], sampling)
    torch.manual_seed(11)
    with torch.no_grad():
        ids = [*sample.tokens.prompt, *sample.tokens.chain]
        embeds = policy.module.model.language_model.embed_tokens(torch.tensor([ids]))
        code = sample.tokens.image[:1]
        hidden = policy.module.model.language_model(inputs_embeds=embeds).last_hidden_state[0, -1]
        first = torch.multinomial(torch.softmax(policy.module.model.generation_head(hidden), -1), 1)
    assert tuple(first.tolist()) == code


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_a_text_is_drawn_from_as_its_ids(policy: JanusPolicy, guidance: float) -> None:
    sampling = replace(SAMPLED, guidance=guidance)
    texts = [f"A red circle.{END}", END, f"x{END}"]
    given = [Drawing(prompt=prompt, chain=text) for prompt, text in zip(PROMPTS, texts, strict=False)]
    samples = policy.draw(given, SEEDS[:3], sampling)
    for sample, text in zip(samples, texts, strict=True):
        assert sample.chain.text == text and not sample.tokens.forced_end
    with torch.no_grad():
        scored = policy.logprobs([sample.tokens for sample in samples], sampling)
    for row, sample in enumerate(samples):
        values = scored.values_BT[row][: len(sample.logprobs)]
        assert sample.logprobs == pytest.approx(values.tolist(), abs=1e-4)


def test_a_caption_replaces_the_prompt_for_the_model_and_not_for_the_score(policy: JanusPolicy) -> None:
    text = f"A red circle.{END}"
    other = Prompt(id="other", text="a blue square", category="color")
    captioned = Drawing(prompt=PROMPTS[0], chain=text, caption=other.text)
    (found,) = policy.draw([captioned], [7], SAMPLED)
    (wanted,) = policy.draw([Drawing(prompt=other, chain=text)], [7], SAMPLED)
    assert found.tokens == wanted.tokens
    assert found.prompt == PROMPTS[0]


@pytest.mark.parametrize("random", ["per_sample", "upstream"])
def test_steps_at_fixed_shapes_draw_the_same(
    policy: JanusPolicy, random: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sampling = replace(SAMPLED, guidance=3.0, random=random)
    written = policy.write(PROMPTS, SEEDS, sampling)
    sliced = policy.draw(drawings(written), SEEDS, sampling)
    monkeypatch.setattr(policy.engine, "steps", Replayed)
    check_equal(policy.draw(drawings(written), SEEDS, sampling), sliced)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("A red circle.", "must end with <begin_of_image>"),
        (f"A red {END}circle.{END}", "hold it nowhere else"),
        ("", "must end with <begin_of_image>"),
        ("red " * 30 + END, r"ids, and rollout\.max_chain_tokens=24: raise it, or shorten the text"),
    ],
)
def test_a_text_that_is_no_chain_is_refused(policy: JanusPolicy, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"the chain of prompt 0.*{message}"):
        policy.draw([Drawing(prompt=PROMPTS[0], chain=text)], [0], SAMPLED)


def test_a_policy_that_writes_no_chains_draws_from_none(janus_folder: Path) -> None:
    plain = JanusPolicy(janus_folder, template=TEMPLATE, plans=False)
    with pytest.raises(ValueError, match=r"writes no chains \(policies\.plans=false\)"):
        plain.draw([Drawing(prompt=PROMPTS[0], chain=END)], [0], SAMPLED)
    with pytest.raises(ValueError, match="writes no chains"):
        plain.write(PROMPTS[:1], [0], SAMPLED)


def test_nothing_is_drawn_from_no_chains(policy: JanusPolicy) -> None:
    assert policy.draw([], [], SAMPLED) == [] and policy.write([], [], SAMPLED) == []
