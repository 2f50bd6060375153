"""Draws follow the tempered, guided distribution, and say its log-probs."""

from __future__ import annotations

import pytest
import torch

from harness.types import Sampling
from policies.janus.draw import PerSample, Upstream, chosen_logprob, guide

LOGITS = torch.tensor([2.0, 0.0, -float("inf"), 1.0, -3.0])
CPU = torch.device("cpu")


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_frequencies_are_the_distribution(temperature: float) -> None:
    count = 4000
    sampling = Sampling(text_temperature=temperature, max_chain_tokens=1)
    ids_B, logprobs_B = PerSample(range(count), sampling, 0, CPU).chain(LOGITS.repeat(count, 1), 0)
    probabilities = torch.softmax(LOGITS / temperature, -1)
    torch.testing.assert_close(
        ids_B.bincount(minlength=5) / count, probabilities, rtol=0.0, atol=4 * (0.25 / count) ** 0.5
    )
    torch.testing.assert_close(logprobs_B, probabilities.log()[ids_B])


def test_a_wide_vocabulary_keeps_its_last_ids() -> None:
    logits = torch.zeros(1, 102_400)
    sampling = Sampling(max_chain_tokens=2000)
    draws = PerSample([1], sampling, 0, CPU)
    ids = torch.stack([draws.chain(logits, step)[0] for step in range(2000)])
    assert abs(ids.float().mean() / 51_200 - 1) < 0.06
    assert ids.max() > 102_000 and ids.min() < 400


def test_every_step_has_its_own_number_and_every_sample_its_own_seed() -> None:
    sampling = Sampling(max_chain_tokens=50)
    logits = torch.zeros(3, 1000)
    draws = PerSample([1, 2, 1], sampling, 20, CPU)
    chains = torch.stack([draws.chain(logits, step)[0] for step in range(50)])
    images = torch.stack([draws.image(logits, step)[0] for step in range(20)])
    assert torch.equal(chains[:, 0], chains[:, 2]) and not torch.equal(chains[:, 0], chains[:, 1])
    assert len(set(chains[:, 0].tolist())) > 40
    assert not torch.equal(chains[:20], images)


@pytest.mark.parametrize(
    "draws", [PerSample([0, 0], Sampling(text_temperature=0, image_temperature=0), 1, CPU), None]
)
def test_greedy_takes_the_largest_and_scores_at_temperature_1(draws: PerSample | None) -> None:
    draws = draws or Upstream(0, Sampling(text_temperature=0, image_temperature=0), CPU)
    logits = torch.stack((LOGITS, LOGITS.flip(0)))
    ids, logprobs = draws.chain(logits, 0)
    assert ids.tolist() == [0, 4]
    torch.testing.assert_close(logprobs, torch.log_softmax(logits, -1).gather(1, ids[:, None]).squeeze(1))


def test_guidance_goes_past_the_conditional_logits() -> None:
    conditional, unconditional = torch.randn(2, 4), torch.randn(2, 4)
    stacked = torch.cat((conditional, unconditional))
    torch.testing.assert_close(guide(stacked, 3.0), 3 * conditional - 2 * unconditional)
    assert guide(stacked, 1.0) is stacked
    sampling = Sampling(guidance=3.0, image_temperature=0.7)
    for draws in (PerSample([1, 2], sampling, 1, CPU), Upstream(1, sampling, CPU)):
        ids, logprobs = draws.image(stacked, 0)
        torch.testing.assert_close(logprobs, chosen_logprob(guide(stacked, 3.0), ids, 0.7))
