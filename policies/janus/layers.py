"""The decoder layers of training on CPUs: the arithmetic of transformers' layers in fewer passes.

The input holds every token once (`policies.janus.packing.Tree`). Norms, linear layers and rotary positions
run over these tokens only. Attention runs over sequences of similar length at a time, and in float32 skips
most products that the causal mask would hide.

The rounding is the rollout engine's: queries are scaled before the product, and scores and weights have the
number format of products. (Transformers' own attention scales the product. Replayed log-probs then differ
from the sampler's by 1e-3 nats per token instead of 1e-5.)

Shapes: N tokens, B sequences, T tokens of the longest, H hidden, G query heads, K key-value heads, D head
width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd import Function
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaRMSNorm

from policies.janus.packing import Tree

if TYPE_CHECKING:
    from transformers import LlamaModel


SEQUENCES = 8  # of a part
QUERIES = {torch.float32: 32, torch.bfloat16: 128}  # of a block; smaller ones are slower in bfloat16


class Layer(LlamaDecoderLayer):
    """A transformers layer that also runs over the tokens of a tree.

    It calls the linear layers as modules, so that adapters apply.
    """

    def forward(self, hidden: Tensor, *arguments: Any, rows: Rows | None = None, **options: Any) -> Tensor:
        """[N, H] states after this layer; without `rows` transformers' own forward."""
        if rows is None:
            return super().forward(hidden, *arguments, **options)
        attention, mlp = self.self_attn, self.mlp
        x_NH = norm(hidden, self.input_layernorm)
        projected = attention.q_proj(x_NH), attention.k_proj(x_NH), attention.v_proj(x_NH)
        hidden = hidden + attention.o_proj(_Attention.apply(*projected, rows, attention.scaling))
        x_NH = norm(hidden, self.post_attention_layernorm)
        return hidden + mlp.down_proj(mlp.act_fn(mlp.gate_proj(x_NH)) * mlp.up_proj(x_NH))


def use(language_model: LlamaModel) -> None:
    """Makes the layers of `language_model` such layers. Their weights and names stay."""
    for layer in language_model.layers:
        layer.__class__ = Layer


def norm(x_NH: Tensor, module: LlamaRMSNorm) -> Tensor:
    """[N, H] normalized, in the number format of products."""
    return _Norm.apply(x_NH, module.weight, module.variance_epsilon, _products(x_NH))


def _products(x: Tensor) -> torch.dtype:
    """The number format of matrix products with `x`."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype


class _Norm(Function):
    """RMSNorm in float32."""

    @staticmethod
    def forward(ctx: Any, x_NH: Tensor, weight_H: Tensor, epsilon: float, dtype: torch.dtype) -> Tensor:
        x_NH, weight_H = x_NH.float(), weight_H.float()
        squares_N1 = torch.linalg.vector_norm(x_NH, dim=-1, keepdim=True).square_()
        factor_N1 = squares_N1.div_(x_NH.shape[-1]).add_(epsilon).rsqrt_()
        normal_NH = x_NH * factor_N1
        ctx.save_for_backward(normal_NH, factor_N1, weight_H)
        return (normal_NH * weight_H).to(dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        normal_NH, factor_N1, weight_H = ctx.saved_tensors
        gradient = gradient.float()
        projected_NH = gradient * normal_NH
        of_weight = projected_NH.sum(0) if ctx.needs_input_grad[1] else None
        mean_N1 = torch.mv(projected_NH, weight_H).div_(-len(weight_H))[:, None]
        of_x = (gradient * weight_H).addcmul_(normal_NH, mean_N1).mul_(factor_N1)
        return of_x, of_weight, None, None


@dataclass(frozen=True)
class _Block:
    """Queries of a part that follow one another; they see the keys up to the last of them."""

    queries: Tensor  # rows of [N * G, D]
    mask: Tensor


@dataclass(frozen=True)
class _Part:
    """Sequences of similar length."""

    sequences: int
    keys: Tensor  # rows of [N * K, D]
    blocks: list[_Block]


class Rows:
    """Positions of the tokens of a tree, and how its sequences lie in padded rows."""

    def __init__(self, tree: Tree, language_model: LlamaModel, like: Tensor) -> None:
        config, dtype = language_model.config, _products(like)
        self.heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.parts: list[_Part] = []
        queries = []
        order = sorted(tree.tokens, key=len)
        for start in range(0, len(order), SEQUENCES):
            slot_BT = _padded(order[start : start + SEQUENCES])
            masks = _masks(slot_BT.shape[1], self.heads // self.kv_heads, dtype)
            blocks = []
            for mask, slots in zip(masks, slot_BT.split(QUERIES[dtype], dim=1), strict=True):
                queries.append(_by_head(slots, self.heads))
                blocks.append(_Block(queries[-1].clamp(min=0), mask))
            keys = _by_head(slot_BT, self.kv_heads).clamp(min=0)
            self.parts.append(_Part(len(slot_BT), keys, blocks))
        self._sizes = list(map(len, queries))
        self._places = _first_places(torch.cat(queries), tree.width * self.heads)
        cos_1ND, sin_1ND = language_model.rotary_emb(like.float(), tree.positions(like.device))
        cos_N1D, (first, second) = cos_1ND[0, :, None], sin_1ND[0, :, None].chunk(2, dim=-1)
        every = (-1, self.heads + self.kv_heads, -1)
        self._cos = cos_N1D.expand(every).contiguous()
        self._sin = torch.cat((-first, second), -1).expand(every).contiguous()

    def rotate(self, x: Tensor, direction: int = 1) -> Tensor:
        """[N, G + K, D] in float32, every head turned by its token's position; -1 turns back."""
        x = x.float()
        first, second = x.chunk(2, dim=-1)
        return (x * self._cos).addcmul_(torch.cat((second, first), -1), self._sin, value=direction)

    def join(self, blocks: list[Tensor]) -> Tensor:
        """[N, G, D] from the results of all blocks. Of equal tokens, the first one counts."""
        width = blocks[0].shape[-1]
        rows = torch.cat([block.view(-1, width) for block in blocks])
        return rows.index_select(0, self._places).view(-1, self.heads, width)

    def spread(self, x: Tensor) -> Iterator[Tensor]:
        """The gradients of the blocks, from that of what they join to: [N, G * D]."""
        by_head = x.reshape(len(self._places), -1)
        rows = by_head.new_zeros(sum(self._sizes), by_head.shape[1])
        return iter(rows.index_copy_(0, self._places, by_head).split(self._sizes))


def _padded(sequences: Sequence[tuple[int, ...]]) -> Tensor:
    """[B, T] slots; -1 at padding on the right, which no token before it sees."""
    longest = max(map(len, sequences))
    return torch.tensor([[*slots, *[-1] * (longest - len(slots))] for slots in sequences])


def _by_head(slot_BT: Tensor, heads: int) -> Tensor:
    """[B * heads * T] rows of [N * heads, D]; negative at padding."""
    row_BGT = slot_BT[:, None] * heads + torch.arange(heads)[:, None]
    return row_BGT.masked_fill_(slot_BT[:, None] < 0, -1).flatten()


def _masks(length: int, groups: int, dtype: torch.dtype) -> list[Tensor]:
    """For each block of queries, scores to add: [G / K * queries, keys seen]."""
    later_TT = torch.ones(length, length, dtype=torch.bool).triu(1)
    mask_TT = torch.zeros(length, length, dtype=dtype).masked_fill_(later_TT, -torch.inf)
    masks = []
    for first in range(0, length, QUERIES[dtype]):
        last = first + QUERIES[dtype]
        masks.append(mask_TT[first:last, :last].repeat(groups, 1))
    return masks


def _first_places(rows: Tensor, count: int) -> Tensor:
    """[count] the first place of every number below `count` in `rows`."""
    places = torch.arange(len(rows))
    real = rows >= 0
    none = torch.full((count,), len(rows))
    return none.scatter_reduce_(0, rows[real], places[real], "amin")


class _Attention(Function):
    """Causal attention with rotary positions, from queries [N, G * D], keys and values [N, K * D]."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, rows: Rows, scaling: float) -> Tensor:
        heads, kv_heads = rows.heads, rows.kv_heads
        rotated = rows.rotate(torch.cat((q, k), -1).unflatten(-1, (heads + kv_heads, -1)))
        width = rotated.shape[-1]
        q, k = rotated[:, :heads] * scaling, rotated[:, heads:]
        q, k, v = (x.to(v.dtype).reshape(-1, width) for x in (q, k, v))
        mixed, saved = [], []
        for part in rows.parts:
            shape = (part.sequences * kv_heads, -1, width)
            keys, values = (x.index_select(0, part.keys).view(shape) for x in (k, v))
            saved += [keys, values]
            for block in part.blocks:
                queries = q.index_select(0, block.queries).view(shape)
                seen = block.mask.shape[1]
                scores = torch.bmm(queries, keys[:, :seen].transpose(1, 2)).add_(block.mask)
                weights = torch.softmax(scores, -1)
                saved += [queries, weights]
                mixed.append(torch.bmm(weights, values[:, :seen]))
        ctx.save_for_backward(*saved)
        ctx.rows, ctx.scaling = rows, scaling
        return rows.join(mixed).flatten(1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        rows, tokens, dtype = ctx.rows, len(gradient), gradient.dtype
        saved, gradients = iter(ctx.saved_tensors), rows.spread(gradient)
        of_q = []
        # float32: the tokens of many sequences may share a key
        of_k, of_v = torch.zeros(2, tokens * rows.kv_heads, gradient.shape[1] // rows.heads)
        for part in rows.parts:
            keys, values = next(saved), next(saved)
            of_keys, of_values = torch.zeros_like(keys), torch.zeros_like(values)
            for _ in part.blocks:
                queries, weights = next(saved), next(saved)
                of_mixed, seen = next(gradients).view(queries.shape), weights.shape[-1]
                of_weights = torch.bmm(of_mixed, values[:, :seen].transpose(1, 2))
                of_scores = torch._softmax_backward_data(of_weights, weights, -1, dtype)
                of_q.append(torch.bmm(of_scores, keys[:, :seen]))
                of_keys[:, :seen] += torch.bmm(of_scores.transpose(1, 2), queries)
                of_values[:, :seen] += torch.bmm(weights.transpose(1, 2), of_mixed)
            of_k.index_add_(0, part.keys, of_keys.view(-1, keys.shape[-1]).float())
            of_v.index_add_(0, part.keys, of_values.view(-1, keys.shape[-1]).float())
        scaled, of_k = rows.join(of_q) * ctx.scaling, of_k.view(tokens, rows.kv_heads, -1)
        turned = rows.rotate(torch.cat((scaled, of_k), 1), -1).to(dtype)
        q, k = turned.split([rows.heads, rows.kv_heads], 1)
        return q.flatten(1), k.flatten(1), of_v.view(tokens, -1).to(dtype), None, None
