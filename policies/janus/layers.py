"""The decoder layers of training on CPUs: the arithmetic of transformers' layers in fewer passes over memory.

The input holds every token once (`policies.janus.packing.Tree`). Norms, linear layers and rotary positions run
over these tokens only. Attention runs over the sequences as padded rows.

Its rounding is the rollout engine's: queries are scaled before the product, and scores and weights have the
number format of products. (Transformers' own attention scales the product. Replayed log-probs then differ from
the sampler's by 1e-3 nats per token instead of 1e-5.)

Shapes: N tokens, B sequences, T tokens of the longest, H hidden, G query heads, K key-value heads, D head width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn.functional import silu
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaRMSNorm

from policies.janus.packing import Tree

if TYPE_CHECKING:
    from transformers import LlamaModel


class Layer(LlamaDecoderLayer):
    """A transformers layer that also takes the tokens of a tree.

    It calls the linear layers as modules, so that adapters apply.
    """

    def forward(self, hidden: Tensor, *arguments: Any, rows: Rows | None = None, **options: Any) -> Tensor:
        if rows is None:
            return super().forward(hidden, *arguments, **options)
        attention, mlp = self.self_attn, self.mlp
        x_NH = norm(hidden, self.input_layernorm)
        qkv = attention.q_proj(x_NH), attention.k_proj(x_NH), attention.v_proj(x_NH)
        mixed_NH = _Attention.apply(*qkv, rows, attention.scaling)
        hidden = hidden + attention.o_proj(mixed_NH)
        x_NH = norm(hidden, self.post_attention_layernorm)
        return hidden + mlp.down_proj(mlp.act_fn(mlp.gate_proj(x_NH)) * mlp.up_proj(x_NH))


def use(language_model: LlamaModel) -> None:
    """Makes the layers of `language_model` such layers. Their weights and names stay."""
    for layer in language_model.layers:
        layer.__class__ = Layer


def norm(x_NH: Tensor, module: LlamaRMSNorm) -> Tensor:
    """[N, H] normalized, in the number format of products."""
    return _Norm.apply(x_NH, module.weight, module.variance_epsilon, products(x_NH))


def products(x: Tensor) -> torch.dtype:
    """The number format of matrix products."""
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
        projected_NH = gradient * normal_NH
        of_weight = projected_NH.sum(0) if ctx.needs_input_grad[1] else None
        mean_N1 = torch.mv(projected_NH, weight_H).div_(-len(weight_H))[:, None]
        of_x = (gradient * weight_H).addcmul_(normal_NH, mean_N1).mul_(factor_N1)
        return of_x, of_weight, None, None


@dataclass(frozen=True)
class _Part:
    """Some sequences of similar length: which rows of the flat keys they have, and of the queries by block."""

    sequences: int
    keys: Tensor
    blocks: list[Tensor]
    mask: list[Tensor]


class Rows:
    """Positions of the tokens of a tree, and how its sequences lie in padded rows.

    Sequences of similar length form a part. The queries of a part form blocks, which see no later keys than
    their last query. Both leave out products that the causal mask would hide.
    """

    def __init__(self, tree: Tree, language_model: LlamaModel, dtype: torch.dtype) -> None:
        config, like = language_model.config, language_model.embed_tokens.weight
        self.heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads
        groups = self.heads // self.kv_heads
        order = sorted(range(len(tree.tokens)), key=lambda index: len(tree.tokens[index]))
        self.parts, block = [], BLOCK[dtype]
        ids, valid = [], []
        for start in range(0, len(order), SEQUENCES):
            slot_BT = _padded([tree.tokens[index] for index in order[start : start + SEQUENCES]])
            longest = slot_BT.shape[1]
            later_TT = torch.ones(longest, longest, dtype=torch.bool).triu(1)
            mask_TT = torch.zeros(longest, longest, dtype=dtype).masked_fill_(later_TT, -torch.inf)
            blocks, masks = [], []
            for first in range(0, longest, block):
                rows = _rows_of(slot_BT[:, first : first + block], self.heads)
                valid.append(rows >= 0)
                blocks.append(rows.clamp(min=0))
                masks.append(mask_TT[first : first + block, : first + block].repeat(groups, 1))
            ids += blocks
            keys = _rows_of(slot_BT, self.kv_heads).clamp(min=0)
            self.parts.append(_Part(len(slot_BT), keys, blocks, masks))
        place_M = torch.arange(sum(map(len, ids)))
        is_valid = torch.cat(valid)
        self._count = len(place_M)
        self._places = torch.full((tree.width * self.heads,), self._count).scatter_reduce_(
            0, torch.cat(ids)[is_valid], place_M[is_valid], "amin"
        )
        cos_1ND, sin_1ND = language_model.rotary_emb(like[:0].float(), tree.positions(like.device))
        half = sin_1ND.shape[-1] // 2
        self._cos_N1D = cos_1ND[0, :, None]
        self._sin_N1D = torch.cat((-sin_1ND[0, :, :half], sin_1ND[0, :, half:]), -1)[:, None]

    def rotate(self, x_N_D: Tensor, direction: int = 1) -> Tensor:
        """[N, heads, D] in float32, turned by its position; -1 turns back."""
        first, second = x_N_D.chunk(2, dim=-1)
        swapped = torch.cat((second, first), -1)
        return torch.addcmul(x_N_D * self._cos_N1D, swapped, self._sin_N1D, value=direction)

    def join(self, blocks: list[Tensor], width: int) -> Tensor:
        """[N, G, D] from the queries of all blocks."""
        rows = torch.cat([block.view(-1, width) for block in blocks]) if len(blocks) > 1 else blocks[0]
        return rows.view(-1, width).index_select(0, self._places).view(-1, self.heads, width)

    def spread(self, x_NGD: Tensor) -> list[Tensor]:
        """The gradient of `join`."""
        rows = x_NGD.new_zeros(self._count, x_NGD.shape[-1])
        rows.index_copy_(0, self._places, x_NGD.reshape(-1, x_NGD.shape[-1]))
        sizes = []
        for part in self.parts:
            sizes += [len(block) for block in part.blocks]
        return list(rows.split(sizes))


SEQUENCES = 8
BLOCK = {torch.float32: 32, torch.bfloat16: 128}


def _padded(tokens: list[tuple[int, ...]]) -> Tensor:
    longest = max(map(len, tokens))
    return torch.tensor([[*slots, *[-1] * (longest - len(slots))] for slots in tokens])


def _rows_of(slot_BT: Tensor, heads: int) -> Tensor:
    """[B * heads * T] of rows [N * heads, D]; negative at padding."""
    return (slot_BT[:, None] * heads + torch.arange(heads)[:, None] * (slot_BT >= 0)[:, None]).flatten()


class _Attention(Function):
    """Causal attention with rotary positions: [N, G * D] of queries [N, G * D], keys and values [N, K * D]."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, rows: Rows, scaling: float) -> Tensor:
        dtype, heads, kv_heads = v.dtype, rows.heads, rows.kv_heads
        rotated = rows.rotate(torch.cat((q, k), -1).unflatten(-1, (heads + kv_heads, -1)))
        q_NGD, k_NKD = rotated.split([heads, kv_heads], 1)
        width = q_NGD.shape[-1]
        q, k, v = ((x.to(dtype)).reshape(-1, width) for x in (q_NGD * scaling, k_NKD, v))
        mixed, saved = [], []
        for part in rows.parts:
            shape = (part.sequences * kv_heads, -1, width)
            keys, values = (x.index_select(0, part.keys).view(shape) for x in (k, v))
            saved += [keys, values]
            for block, mask in zip(part.blocks, part.mask, strict=True):
                queries = q.index_select(0, block).view(shape)
                seen = mask.shape[1]
                scores = torch.bmm(queries, keys[:, :seen].transpose(1, 2)).add_(mask)
                weights = torch.softmax(scores, -1)
                saved += [queries, weights]
                mixed.append(torch.bmm(weights, values[:, :seen]))
        ctx.save_for_backward(*saved)
        ctx.rows, ctx.scaling = rows, scaling
        return rows.join(mixed, width).flatten(1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        rows, dtype = ctx.rows, gradient.dtype
        saved, gradients = iter(ctx.saved_tensors), iter(rows.spread(gradient.unflatten(-1, (rows.heads, -1))))
        of_queries = []
        of_k, of_v = torch.zeros(2, len(gradient) * rows.kv_heads, gradient.shape[1] // rows.heads)
        for part in rows.parts:
            keys, values = next(saved), next(saved)
            of_keys = of_values = None
            for _ in part.blocks[::1]:
                queries, weights = next(saved), next(saved)
                out = next(gradients).view(queries.shape)
                seen = weights.shape[-1]
                of_values_b = torch.bmm(weights.transpose(1, 2), out)
                of_weights = torch.bmm(out, values[:, :seen].transpose(1, 2))
                of_scores = torch._softmax_backward_data(of_weights, weights, -1, dtype)
                of_queries.append(torch.bmm(of_scores, keys[:, :seen]))
                of_keys_b = torch.bmm(of_scores.transpose(1, 2), queries)
                if of_keys is not None:
                    of_keys_b[:, : of_keys.shape[1]] += of_keys
                    of_values_b[:, : of_values.shape[1]] += of_values
                of_keys, of_values = of_keys_b, of_values_b
            of_k.index_add_(0, part.keys, of_keys.view(-1, keys.shape[-1]).float())
            of_v.index_add_(0, part.keys, of_values.view(-1, keys.shape[-1]).float())
        q = rows.join(of_queries, of_k.shape[-1]) * ctx.scaling
        q, k = (rows.rotate(x, -1).flatten(1).to(dtype) for x in (q, of_k.view(len(q), -1, q.shape[-1])))
        return q, k, of_v.view(len(q), -1).to(dtype), None, None
