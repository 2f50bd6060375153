"""Negative self-certainty of perfect, certain, empty and unmeasured samples."""

from __future__ import annotations

from typing import Any

import pytest
from PIL import Image

from harness.chain import parse
from harness.trainers.advantage import standard_scores
from harness.types import Prompt, Sample, Tokens
from rewards.self_certainty import NegativeSelfCertainty


def sample(*certainty: float, chain: int = 2, forced_end: bool = False, measured: bool = True) -> Sample:
    """A sample whose first `chain` ids are those of the chain."""
    ids = tuple(range(len(certainty)))
    return Sample(
        prompt=Prompt(id="p", text="a vase", category="color"),
        chain=parse(""),
        image=Image.new("RGB", (4, 4)),
        tokens=Tokens(prompt=(1,), chain=ids[:chain], image=ids[chain:], forced_end=forced_end),
        logprobs=(0.0,) * len(ids),
        seed=0,
        certainty=certainty if measured else None,
    )


def component(tokens: Any = "both", limit: float = 10) -> NegativeSelfCertainty:
    return NegativeSelfCertainty(tokens=tokens, limit=limit)


@pytest.mark.parametrize(("tokens", "mean"), [("chain", 2.0), ("image", 5.0), ("both", 3.8)])
def test_the_mean_over_the_chosen_tokens_counts(tokens, mean):
    (score,) = component(tokens)([sample(1, 3, 4, 5, 6)])
    assert score.value == pytest.approx(1 - mean / 10)
    assert score.evidence == {"self_certainty": pytest.approx(mean), "clipped": False}


@pytest.mark.parametrize(("tokens", "mean"), [("chain", 1.0), ("image", 5.0), ("both", 4.0)])
def test_a_forced_begin_of_image_does_not_count(tokens, mean):
    (score,) = component(tokens)([sample(1, 99, 4, 5, 6, forced_end=True)])
    assert score.evidence["self_certainty"] == pytest.approx(mean)


def test_the_less_certain_sample_earns_more():
    uniform, certain = component()([sample(0, 0, 0), sample(8, 8, 8)])
    assert uniform.value == 1.0 and certain.value == pytest.approx(0.2)


def test_above_the_limit_the_reward_is_zero_and_the_evidence_says_so():
    (score,) = component(limit=2)([sample(3, 3, 3)])
    assert score.value == 0.0 and score.evidence == {"self_certainty": 3.0, "clipped": True}


def test_normalized_advantages_are_those_of_the_negative_mean_whatever_the_limit():
    raw = [0.013, 2.5, 7.25, 7.2501, 19.0]
    wanted = standard_scores([-value for value in raw])
    for limit in (20, 100, 1e4):
        scores = component(limit=limit)([sample(value, value, value) for value in raw])
        values = [score.value for score in scores if score.value is not None]
        assert standard_scores(values) == pytest.approx(wanted, abs=1e-9)


def test_a_sample_without_measurement_or_tokens_is_unscored():
    missing = component()([sample(1, 2, 3, measured=False)])[0]
    assert missing.value is None and missing.unscored is not None
    assert missing.unscored.startswith("the sample has no self-certainty")
    empty = component("chain")([sample(7, 2, 3, chain=1, forced_end=True)])[0]
    assert empty.unscored == "no token was sampled (tokens: chain)"


@pytest.mark.parametrize("tokens", ["chain", "image", "both"])
def test_the_scope_is_that_of_the_tokens(tokens):
    assert component(tokens).scope == tokens and component(tokens).needs_certainty


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tokens": "prompt"}, "tokens='prompt': give chain, image or both"),
        ({"limit": 0}, "limit=0: give a number of nats above 0"),
        ({"limit": float("nan")}, "limit=nan: give a number"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        component(**settings)
