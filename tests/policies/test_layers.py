"""The layers of training on CPUs give the values and gradients of plain operators, in both number formats."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
import torch
from mini_likelihood import Model
from torch import Tensor
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaModel
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from policies.janus import attention, heads, layers, packing

FORMATS = [torch.float32, torch.bfloat16]
ROUNDING = {torch.float32: 1e-5, torch.bfloat16: 2**-6}


def compare(
    found: Callable[..., Any], expected: Callable[..., Any], inputs: list[Tensor], dtype: torch.dtype
) -> None:
    """Compares results and gradients, each as a whole, with those of `expected` in float32."""
    every = []
    for function, convert in ((found, Tensor.clone), (expected, Tensor.float)):
        leaves = [convert(one.detach()).requires_grad_() for one in inputs]
        results = function(*leaves)
        results = results if isinstance(results, tuple) else (results,)
        torch.manual_seed(1)
        loss = torch.zeros(())
        for one in results:
            loss = loss + (one.float() * torch.randn(one.shape)).sum()
        every.append([*results, *torch.autograd.grad(loss, leaves)])
    for one, other in zip(*every, strict=True):
        assert (one.float() - other.float()).norm() <= ROUNDING[dtype] * other.float().norm()


@pytest.mark.parametrize("dtype", FORMATS)
def test_norm_with_and_without_a_sum(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x_NH, added_NH, weight_H = 3 * torch.randn(7, 24), torch.randn(7, 24).to(dtype), torch.randn(24)

    def plain(x: Tensor, weight: Tensor) -> Tensor:
        return x * (x.square().mean(-1, keepdim=True) + 1e-3).rsqrt() * weight

    def summed(x: Tensor, added: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        return x + added, plain(x + added, weight)

    def of_rows(x: Tensor, weight: Tensor) -> Any:
        return layers._Norm.apply(x, weight, 1e-3, dtype)

    def of_sums(x: Tensor, added: Tensor, weight: Tensor) -> Any:
        return layers._AddNorm.apply(x, added, weight, 1e-3, dtype)

    compare(of_rows, plain, [x_NH, weight_H], dtype)
    compare(of_sums, summed, [x_NH, added_NH, weight_H], dtype)


@pytest.mark.parametrize("dtype", FORMATS)
def test_gate(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    gates, ups = (5 * torch.randn(2, 9, 37)).to(dtype)
    compare(layers._Gate.apply, lambda gate, up: F.silu(gate) * up, [gates, ups], dtype)


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_log_probs_and_measures_of_ids(dtype: torch.dtype, temperature: float) -> None:
    torch.manual_seed(0)
    logits, ids = (4 * torch.randn(9, 50)).to(dtype), torch.randint(50, (9,))

    def plain(logits: Tensor) -> Tensor:
        return torch.log_softmax(logits / temperature, -1)[range(9), ids]

    compare(lambda logits: heads._Choice.apply(logits, ids, temperature)[0], plain, [logits], dtype)
    logprobs = torch.log_softmax(logits.float() / temperature, -1)
    _, entropies, certainties = heads._Choice.apply(logits, ids, temperature)
    torch.testing.assert_close(entropies, -(logprobs.exp() * logprobs).sum(-1))
    uniform = torch.full((50,), 1 / 50)
    torch.testing.assert_close(certainties, (uniform * (uniform.log() - logprobs)).sum(-1))


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("kv_heads", [4, 2, 1])
def test_attention_over_a_tree(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, kv_heads: int) -> None:
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=32,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=kv_heads,
        vocab_size=8,
    )
    model = LlamaModel(config)
    tree = packing.tree([[1, 2, 3], [1, 2, 4, 5], [1, 2, 3], [6]], 9)
    real = 1 + max(max(slots) for slots in tree.tokens)
    monkeypatch.setattr(layers, "SEQUENCES", 3)
    monkeypatch.setattr(layers, "QUERIES", 5)
    rows = layers.Rows(tree, model, torch.zeros(1))
    cos_ND, sin_ND = (x[0] for x in model.rotary_emb(torch.zeros(1), tree.positions(torch.device("cpu"))))
    sees = torch.zeros(tree.width, tree.width, dtype=torch.bool)
    for slots in tree.tokens:
        for end, slot in enumerate(slots):
            sees[slot, list(slots[: end + 1])] = True

    def naive(*projected: Tensor) -> Tensor:
        q, k, v = (x[:real].unflatten(-1, (-1, 8)).transpose(0, 1) for x in projected)
        q, k = (x * cos_ND[:real] + _half_turned(x) * sin_ND[:real] for x in (q, k))
        k, v = (x.repeat_interleave(len(q) // kv_heads, 0) for x in (k, v))
        scores = (q @ k.transpose(1, 2) * 8**-0.5).masked_fill(~sees[:real, :real], -torch.inf)
        return torch.softmax(scores, -1).matmul(v).transpose(0, 1).flatten(1)

    projected = [torch.randn(tree.width, 8 * count).to(dtype) for count in (4, kv_heads, kv_heads)]
    compare(lambda *x: layers._Attention.apply(*x, rows, 8**-0.5)[:real], naive, projected, dtype)


def _half_turned(x: Tensor) -> Tensor:
    first, second = x.chunk(2, -1)
    return torch.cat((-second, first), -1)


@pytest.mark.parametrize("products", FORMATS)
def test_a_layer_and_the_states_that_are_read(products: torch.dtype) -> None:
    torch.manual_seed(0)
    config = LlamaConfig(hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4)
    model = LlamaModel(config)
    for module in model.modules():
        if isinstance(module, LlamaRMSNorm):
            module.weight.data.normal_()
    tree = packing.tree([[1]], 31)
    x_NH, read = torch.randn(32, 32), torch.tensor([3, 3, 31, 0])
    embeddings = model.rotary_emb(x_NH, torch.arange(32)[None])
    layer = model.layers[0]
    layer.self_attn.config._attn_implementation = "eager"
    mask = torch.full((32, 32), -torch.inf).triu(1)[None, None]

    def naive(x: Tensor) -> Tensor:
        return layer(x[None], attention_mask=mask, position_embeddings=embeddings)[0, read]

    context: AbstractContextManager[Any] = nullcontext()
    if products == torch.bfloat16:
        context = torch.autocast("cpu", torch.bfloat16)

    def own(x: Tensor) -> Tensor:
        with context:
            return layer(x, rows=layers.Rows(tree, model, x), read=read)

    layers.use(model)
    compare(own, naive, [x_NH], products)


def test_cpus_use_these_layers_and_other_devices_those_of_transformers(model: Model) -> None:
    decoder = model.model.language_model
    attention.use(decoder, torch.device("cuda"))
    assert not any(isinstance(layer, layers.Layer) for layer in decoder.layers)
    attention.use(decoder, torch.device("cpu"))
    assert all(isinstance(layer, layers.Layer) for layer in decoder.layers)
