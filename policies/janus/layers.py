"""The decoder layers of training on CPUs: the arithmetic of transformers' layers in fewer passes.

The input holds every token once (`policies.janus.packing.Tree`). Norms, linear layers and rotary positions
run over these tokens only, attention over sequences of similar length at a time. Matrix products are torch's;
what lies between them are compiled loops (`policies.janus.training_kernels`).

The rounding is the rollout engine's: queries are scaled before the product, and scores and weights have the
number format of products. (Transformers' own attention scales the product. Replayed log-probs then differ
from the sampler's by 1e-3 nats per token instead of 1e-5.)

Shapes: N tokens, B sequences, T tokens of the longest, H hidden, G query heads, K key-value heads, D head
width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd import Function
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaRMSNorm

from policies.janus import compiled
from policies.janus import training_kernels as kernels
from policies.janus.loops import array
from policies.janus.packing import Tree

if TYPE_CHECKING:
    from transformers import LlamaModel


SEQUENCES = 8  # of a part
MULTIPLE = 8  # of which the padded length is one: products of other lengths take up to 1.4 times as long
QUERIES = 128  # of a block; smaller ones skip more of what the mask hides, but their products are slower
PLAIN = (None, None, np.float32(1))  # neither rotated nor scaled


class Layer(LlamaDecoderLayer):
    """A transformers layer that also runs over the tokens of a tree.

    It calls the linear layers as modules, so that adapters apply.
    """

    def forward(
        self,
        hidden: Tensor,
        *arguments: Any,
        rows: Rows | None = None,
        read: Tensor | None = None,
        **options: Any,
    ) -> Tensor:
        """[N, H] states after this layer, or those of the tokens `read`; without `rows` transformers' own."""
        if rows is None:
            return super().forward(hidden, *arguments, **options)
        attention, mlp = self.self_attn, self.mlp
        x_NH = norm(hidden, self.input_layernorm)
        projected = attention.q_proj(x_NH), attention.k_proj(x_NH), attention.v_proj(x_NH)
        mixed_NH = _Attention.apply(*projected, rows, attention.scaling)
        if read is not None:
            hidden, mixed_NH = hidden.index_select(0, read), mixed_NH.index_select(0, read)
        hidden, x_NH = _add_norm(hidden, attention.o_proj(mixed_NH), self.post_attention_layernorm)
        return hidden + mlp.down_proj(_Gate.apply(mlp.gate_proj(x_NH), mlp.up_proj(x_NH)))


def use(language_model: LlamaModel) -> None:
    """Makes the layers of `language_model` such layers. Their weights and names stay."""
    for layer in language_model.layers:
        layer.__class__ = Layer


def norm(x_NH: Tensor, module: LlamaRMSNorm) -> Tensor:
    """[N, H] normalized, in the number format of products."""
    return _Norm.apply(x_NH, module.weight, module.variance_epsilon, _products(x_NH))


def _add_norm(x_NH: Tensor, added_NH: Tensor, module: LlamaRMSNorm) -> tuple[Tensor, Tensor]:
    """[N, H] sum, and [N, H] normalized, in the number format of products."""
    return _AddNorm.apply(x_NH, added_NH, module.weight, module.variance_epsilon, _products(x_NH))


def _products(x: Tensor) -> torch.dtype:
    """The number format of matrix products with `x`."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype


def _copy(weight: Tensor) -> Tensor:
    """A copy for loops: FSDP frees the memory of weights, and may not once an array has shared it."""
    return weight.detach().clone()


class _Norm(Function):
    """RMSNorm."""

    @staticmethod
    def forward(ctx: Any, x_NH: Tensor, weight_H: Tensor, epsilon: float, dtype: torch.dtype) -> Tensor:
        ctx.save_for_backward(x_NH, weight_H)
        ctx.epsilon = epsilon
        return compiled.normalize(x_NH.contiguous(), _copy(weight_H), epsilon, dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return *_norm_back(ctx, gradient, None), None, None


class _AddNorm(Function):
    """A sum, and its RMSNorm."""

    @staticmethod
    def forward(
        ctx: Any, x_NH: Tensor, added_NH: Tensor, weight_H: Tensor, epsilon: float, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        total_NH, out_NH = torch.empty_like(x_NH), torch.empty_like(x_NH, dtype=dtype)
        arrays = [array(x) for x in (x_NH, added_NH, _copy(weight_H))]
        kernels.add_normalize(*arrays, np.float32(epsilon), array(total_NH), array(out_NH))
        ctx.save_for_backward(total_NH, weight_H)
        ctx.epsilon, ctx.added = epsilon, added_NH.dtype
        return total_NH, out_NH

    @staticmethod
    def backward(ctx: Any, of_total: Tensor, gradient: Tensor) -> tuple[Tensor | None, ...]:
        of_x, of_weight = _norm_back(ctx, gradient, of_total)
        return of_x, of_x.to(ctx.added), of_weight, None, None


def _norm_back(ctx: Any, gradient: Tensor, more: Tensor | None) -> tuple[Tensor, Tensor]:
    """The gradients of a normalized input, which has the gradient `more`, too, and of the weight."""
    x_NH, weight_H = ctx.saved_tensors
    of_x, of_weight = torch.empty_like(x_NH), torch.zeros_like(weight_H, dtype=torch.float32)
    gradients = [None if one is None else array(one.contiguous()) for one in (gradient, more)]
    x, weight = array(x_NH), array(_copy(weight_H))
    kernels.normalize_back(x, weight, np.float32(ctx.epsilon), *gradients, array(of_x), array(of_weight))
    return of_x, of_weight


class _Gate(Function):
    """silu(gate) * up."""

    @staticmethod
    def forward(ctx: Any, gates: Tensor, ups: Tensor) -> Tensor:
        ctx.save_for_backward(gates, ups)
        out = torch.empty_like(gates)
        kernels.gate(array(gates), array(ups), array(out))
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        gates, ups = ctx.saved_tensors
        of_gates, of_ups = torch.empty_like(gates), torch.empty_like(ups)
        arrays = [array(x) for x in (gates, ups, gradient.contiguous(), of_gates, of_ups)]
        kernels.gate_back(*arrays)
        return of_gates, of_ups


@dataclass(frozen=True)
class _Block:
    """Queries of sequences that follow one another, from token `first` on, and the keys up to the last."""

    first: int
    queries: NDArray[np.int64]  # the tokens [B, queries]; -1 at padding
    owned: NDArray[np.int64]  # the first of them in each sequence that no earlier sequence has
    keys: NDArray[np.int64]  # the tokens [B, keys]; -1 at padding


class Rows:
    """Positions of the tokens of a tree, and how its sequences lie in padded rows."""

    def __init__(self, tree: Tree, language_model: LlamaModel, like: Tensor) -> None:
        cos_1ND, sin_1ND = language_model.rotary_emb(like.float(), tree.positions(like.device))
        first, second = sin_1ND[0].chunk(2, dim=-1)
        cos_ND, sin_ND = array(cos_1ND[0]), array(torch.cat((-first, second), -1))
        self.width = cos_ND.shape[1]
        self.turn, self.turn_back = (cos_ND, sin_ND), (cos_ND, -sin_ND)
        self.parts: list[tuple[NDArray[np.int64], list[_Block]]] = []
        order = sorted(range(len(tree.tokens)), key=lambda sequence: len(tree.tokens[sequence]))
        for start in range(0, len(order), SEQUENCES):
            part = order[start : start + SEQUENCES]
            slots = _padded([tree.tokens[sequence] for sequence in part])
            shared = np.array([tree.firsts[sequence] for sequence in part])
            blocks = []
            for first in range(0, slots.shape[1], QUERIES):
                keys = np.ascontiguousarray(slots[:, : first + QUERIES])
                queries = np.ascontiguousarray(keys[:, first:])
                blocks.append(_Block(first, queries, (shared - first).clip(min=0), keys))
            self.parts.append((slots, blocks))


def _padded(sequences: Sequence[tuple[int, ...]]) -> NDArray[np.int64]:
    """[B, T] slots; -1 at padding on the right, which no token before it sees."""
    longest = -(-max(map(len, sequences)) // MULTIPLE) * MULTIPLE
    return np.array([[*slots, *[-1] * (longest - len(slots))] for slots in sequences])


class _Attention(Function):
    """Causal attention with rotary positions, from queries [N, G * D], keys and values [N, K * D]."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, rows: Rows, scaling: float) -> Tensor:
        kv_heads, groups = k.shape[1] // rows.width, q.shape[1] // k.shape[1]
        dtype, out = v.dtype, torch.zeros_like(q, dtype=v.dtype)  # padding stays 0
        saved = []
        for slots, blocks in rows.parts:
            shape = (kv_heads * slots.shape[0], slots.shape[1], rows.width)
            keys, values = torch.empty(2, *shape, dtype=dtype)
            nobody = np.zeros_like(blocks[0].owned)
            kernels.spread(array(k), *rows.turn, np.float32(1), slots, nobody, array(keys))
            kernels.spread(array(v), *PLAIN, slots, nobody, array(values))
            saved += [keys, values]
            for block in blocks:
                seen = block.keys.shape[1]
                queries = torch.empty(len(keys), block.queries.shape[1] * groups, rows.width, dtype=dtype)
                own = block.queries, block.owned
                kernels.spread(array(q), *rows.turn, np.float32(scaling), *own, array(queries))
                weights = torch.bmm(queries, keys[:, :seen].transpose(1, 2))
                kernels.weigh(array(weights), block.first, groups)
                mixed = torch.bmm(weights, values[:, :seen])
                kernels.join(array(mixed), *PLAIN, *own, array(out))
                saved += [queries, weights]
        ctx.save_for_backward(*saved)
        ctx.rows, ctx.scaling, ctx.groups = rows, scaling, groups
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        rows, groups, saved = ctx.rows, ctx.groups, iter(ctx.saved_tensors)
        gradient = gradient.contiguous()
        of_q = torch.zeros_like(gradient)
        # float32: the tokens of many sequences may share a key
        of_k, of_v = torch.zeros(2, len(gradient), gradient.shape[1] // groups)
        for _, blocks in rows.parts:
            keys, values = next(saved), next(saved)
            for block in blocks:
                queries, weights = next(saved), next(saved)
                own, seen = (block.queries, block.owned), block.keys.shape[1]
                of_mixed = torch.empty_like(queries)
                kernels.spread(array(gradient), *PLAIN, *own, array(of_mixed))
                of_values = torch.bmm(weights.transpose(1, 2), of_mixed)
                kernels.add(array(of_values), None, None, block.keys, array(of_v))
                of_scores = torch.bmm(of_mixed, values[:, :seen].transpose(1, 2))
                kernels.weigh_back(array(weights), array(of_scores), block.first, groups)
                of_keys = torch.bmm(of_scores.transpose(1, 2), queries)
                kernels.add(array(of_keys), *rows.turn_back, block.keys, array(of_k))
                of_queries = torch.bmm(of_scores, keys[:, :seen])
                kernels.join(array(of_queries), *rows.turn_back, np.float32(ctx.scaling), *own, array(of_q))
        return of_q, of_k.to(gradient.dtype), of_v.to(gradient.dtype), None, None
