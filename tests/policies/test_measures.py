"""Entropy, certainty and contrast are those of all logits, and asking for them changes no log-prob."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from mini_likelihood import (
    ERASED,
    GUIDED,
    PLAIN,
    TOKENS,
    VARIANTS,
    Action,
    Model,
    Settings,
    gradients,
    naive,
    score,
    use_the_kernel_of_gpus,
)
from torch.distributions import Categorical, kl_divergence

from harness.types import Sampling
from policies.janus import heads

GREEDY = Sampling(guidance=3.0, text_temperature=0.0, image_temperature=0.0)


def measured(action: Action) -> dict[str, float]:
    """The measures in float64."""
    trained, conditional, unconditional = (Categorical(logits=logits.double()) for logits in action[1:])
    id = torch.tensor(action.id)
    uniform = Categorical(logits=torch.zeros_like(trained.logits))
    return {
        "entropy": float(trained.entropy()),
        "certainty": float(kl_divergence(uniform, trained)),
        "contrast": float(unconditional.log_prob(id) - conditional.log_prob(id)),
    }


@pytest.mark.parametrize(("settings", "budget", "fused"), VARIANTS, ids=str)
@pytest.mark.parametrize(
    ("sampling", "erased"),
    [(PLAIN, ()), (PLAIN, ERASED), (GUIDED, ()), (GREEDY, ERASED)],
    ids=["plain", "dropout", "guided", "greedy"],
)
def test_measures_are_those_of_all_logits_and_change_no_bit(
    model: Model,
    monkeypatch: pytest.MonkeyPatch,
    sampling: Sampling,
    erased: Sequence[bool],
    settings: Settings,
    budget: int,
    fused: bool,
) -> None:
    names = heads.MEASURES if sampling.guidance > 1 else ("certainty", "entropy")
    with torch.no_grad():
        expected = [measured(action) for action in naive(model, TOKENS, sampling, erased)]
    monkeypatch.setattr(heads, "LOGITS", budget)
    if fused:
        use_the_kernel_of_gpus(monkeypatch)
    plain = score(model, TOKENS, sampling, erased, **settings)
    result = score(model, TOKENS, sampling, erased, names, **settings)
    assert not plain.measures and tuple(result.measures) == tuple(names)
    for name, numbers in result.measures.items():
        assert numbers.dtype == torch.float32 and not numbers.requires_grad
        right = torch.tensor([action[name] for action in expected])
        torch.testing.assert_close(numbers[result.action_BT], right, rtol=1e-5, atol=2e-5)
    assert torch.equal(plain.values_BT, result.values_BT)
    found = [gradients(model, one.values_BT[one.action_BT]) for one in (plain, result)]
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0].keys() | found[1].keys())


def test_contrast_is_of_guided_image_ids_only(model: Model) -> None:
    result = score(model, TOKENS, GUIDED, (), ("contrast",))
    contrast = result.measures["contrast"]
    assert contrast[result.image_BT].all() and not contrast[~result.image_BT].any()
    with pytest.raises(ValueError, match=r"contrast .* guidance=1 .* set rollout\.guidance above 1"):
        score(model, TOKENS, PLAIN, (), ("entropy", "contrast"))


def test_an_unknown_measure_is_named(model: Model) -> None:
    with pytest.raises(ValueError, match="unknown measure 'varentropy': choose from entropy, certainty, con"):
        score(model, TOKENS, PLAIN, (), ("entropy", "varentropy"))
