"""Teacher-forced log-probs and gradients equal those of transformers' forward, in less memory."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from mini_likelihood import (
    BOI,
    BOS,
    ERASED,
    GUIDED,
    IMAGE,
    PAD,
    PLAIN,
    TOKENS,
    VARIANTS,
    VOCABULARY,
    Model,
    Settings,
    gradients,
    log_probs,
    naive,
    score,
    scored,
    sequences,
    use_the_kernel_of_gpus,
)
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from harness.trainers import lora
from harness.types import Sampling, Tokens
from policies.janus import heads, layers
from policies.janus.likelihood import Likelihood
from policies.janus.packing import one_per_row

DECODER = r"model\.language_model\.layers\.\d+\.(self_attn|mlp)\..*"


def furthest(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """The largest difference, as a share of the largest gradient of its parameter."""
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max() / one[name].abs().max()) for name in one)


@pytest.mark.parametrize(("settings", "budget", "fused"), VARIANTS, ids=str)
@pytest.mark.parametrize(
    ("sampling", "erased"), [(PLAIN, ()), (PLAIN, ERASED), (GUIDED, ())], ids=["plain", "dropout", "guided"]
)
def test_values_and_gradients_are_those_of_all_logits(
    model: Model,
    monkeypatch: pytest.MonkeyPatch,
    sampling: Sampling,
    erased: Sequence[bool],
    settings: Settings,
    budget: int,
    fused: bool,
) -> None:
    expected = log_probs(naive(model, TOKENS, sampling, erased))
    expected_gradients = gradients(model, expected)
    monkeypatch.setattr(heads, "LOGITS", budget)
    if fused:
        use_the_kernel_of_gpus(monkeypatch)
    values = scored(model, TOKENS, sampling, erased, **settings)
    assert ((values - expected).abs() / expected.abs()).max() < 1e-6
    assert furthest(expected_gradients, gradients(model, values)) < 1e-5


class Largest(TorchDispatchMode):
    """The most values any tensor had that was made inside, forward or backward."""

    def __init__(self) -> None:
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        self.numel = max([self.numel, *(one.numel() for one in tree_leaves(made) if isinstance(one, Tensor))])
        return made


def largest(model: Model, tokens: Sequence[Tokens], sampling: Sampling, **settings: Any) -> int:
    with Largest() as mode:
        score(model, tokens, sampling, (), **settings).values_BT.sum().backward()
    model.zero_grad()
    return mode.numel


@pytest.mark.parametrize(
    "settings", [{}, {"recompute": True}, {"measures": ("entropy", "certainty")}], ids=str
)
@pytest.mark.parametrize("sampling", [PLAIN, GUIDED], ids=["plain", "guided"])
def test_no_tensor_grows_with_positions_times_vocabulary(
    model: Model, monkeypatch: pytest.MonkeyPatch, sampling: Sampling, settings: Settings
) -> None:
    weights = max(parameter.numel() for parameter in model.parameters())
    few, many = sequences(2, chain=(90, 91)), sequences(8, chain=(90, 91))
    assert largest(model, many, sampling) > 8 * 90 * VOCABULARY, "in one piece the logits are the largest"
    use_the_kernel_of_gpus(monkeypatch)
    monkeypatch.setattr(heads, "LOGITS", 2**16)
    assert 8 * 4 * 90 * 90 > weights == VOCABULARY * 32, "attention weights [B, heads, T, T] would show"
    assert largest(model, few, sampling, **settings) <= weights
    assert largest(model, many, sampling, **settings) <= weights


def kept(model: Model, **settings: Any) -> int:
    """How many values the forward pass of the decoder keeps for the backward pass, weights not counted."""
    sizes: list[int] = []
    weights = {parameter.data_ptr() for parameter in model.parameters()}
    likelihood = Likelihood(model, bos=BOS, pad=PAD, **settings)

    def keep(tensor: Tensor) -> Tensor:
        sizes.append(0 if tensor.data_ptr() in weights else tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        likelihood._states(torch.randn(120, 32), one_per_row([30] * 4), torch.arange(120))
    return sum(sizes)


def test_recomputation_is_exact_and_keeps_less(model: Model) -> None:
    found = [
        gradients(model, scored(model, TOKENS, PLAIN, recompute=recompute)) for recompute in (False, True)
    ]
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
    assert kept(model, recompute=True) < kept(model) / 4


def test_recomputation_gives_adapters_their_gradients_where_nothing_else_has_any(model: Model) -> None:
    lora.add(model, rank=2, alpha=4, targets=DECODER)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter) if parameter.requires_grad else 0.0
    once, again = (
        gradients(model, scored(model, TOKENS, PLAIN, recompute=recompute)) for recompute in (False, True)
    )
    assert once.keys() == {name for name, _ in model.named_parameters() if "lora_" in name}
    assert all(torch.equal(once[name], again[name]) and again[name].any() for name in once)


def test_a_sequence_scores_alone_as_in_any_company(model: Model) -> None:
    with torch.no_grad():
        together = scored(model, TOKENS, GUIDED, pack=100)
        alone = torch.cat([scored(model, [one], GUIDED) for one in TOKENS])
    assert torch.allclose(together, alone, rtol=1e-6, atol=1e-6)


def test_samples_of_a_group_share_their_prompt_and_get_the_gradients_of_transformers_forward(
    model: Model,
) -> None:
    first, second = TOKENS[0], TOKENS[3]
    group = [replace(row, prompt=first.prompt, chain=first.chain[:2] + row.chain[2:]) for row in TOKENS]
    group = [second, *group, first, first]
    for sampling in (PLAIN, GUIDED):
        expected, values = log_probs(naive(model, group, sampling)), scored(model, group, sampling)
        assert ((values - expected).abs() / expected.abs()).max() < 1e-6
        assert furthest(gradients(model, expected), gradients(model, values)) < 1e-5


@pytest.mark.parametrize("size", [1, 3])
def test_parts_and_blocks_of_any_size_give_the_same_numbers(
    model: Model, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    values = scored(model, TOKENS, PLAIN)
    expected = gradients(model, values)
    monkeypatch.setattr(layers, "SEQUENCES", size)
    monkeypatch.setattr(layers, "QUERIES", size + 4)
    others = scored(model, TOKENS, PLAIN)
    assert torch.allclose(values, others, rtol=1e-6)
    assert furthest(expected, gradients(model, others)) < 1e-5


def test_a_sequence_longer_than_a_packed_row_names_the_setting(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_the_kernel_of_gpus(monkeypatch)
    longest = max(len(row.prompt) + len(row.chain) + IMAGE - 1 for row in TOKENS)
    with pytest.raises(ValueError, match=rf"policies\.pack={longest - 1}: .*{longest} tokens"):
        scored(model, TOKENS, PLAIN, pack=longest - 1)


def test_begin_of_image_alone_is_no_chain_and_no_action(model: Model) -> None:
    bare = [Tokens(prompt=row.prompt, chain=(BOI,), image=row.image, forced_end=True) for row in TOKENS]
    values = scored(model, bare, PLAIN)
    assert len(values) == len(bare) * IMAGE
    assert not [name for name in gradients(model, values) if name.startswith("lm_head")]


def test_layers_are_called_as_modules_and_other_towers_keep_their_attention(model: Model) -> None:
    before = model.model.vision_model.config._attn_implementation
    called: list[int] = []
    for index, layer in enumerate(model.model.language_model.layers):
        layer.register_forward_hook(lambda *_, index=index: called.append(index))
    scored(model, TOKENS, PLAIN)
    assert called == [0, 1]
    assert model.model.vision_model.config._attn_implementation == before


def test_bfloat16_weights_with_float32_adapters(model: Model) -> None:
    lora.add(model, rank=2, alpha=4, targets=DECODER + r"|lm_head")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn_like(parameter) if parameter.requires_grad else 0.0
        exact = scored(model, TOKENS, GUIDED)
    low = copy.deepcopy(model)
    for parameter in low.parameters():
        parameter.data = parameter.data if parameter.requires_grad else parameter.data.bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        values = scored(low, TOKENS, GUIDED, recompute=True, pack=100)
    assert values.dtype == torch.float32 and bool(values.isfinite().all())
    assert (values - exact).abs().mean() < 0.1 and (values - exact).abs().max() < 1.0, (
        "of about 15 nats, with logits guided threefold"
    )
    found = gradients(low, values)
    assert found.keys() == {name for name, _ in low.named_parameters() if "lora_" in name}
    assert all(
        one.dtype == torch.float32 and bool(one.isfinite().all()) and bool(one.any())
        for one in found.values()
    )
