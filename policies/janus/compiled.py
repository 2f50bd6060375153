"""The operators of a rollout step that are compiled for CPUs (`policies.janus.kernels`), on tensors.

Shapes: R rows, S slots, G key-value heads, Q query heads per key-value head, D head width, H hidden, I width
of the MLP.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from policies.janus import kernels
from policies.janus.batch_attention import Heads
from policies.janus.cache import KeyValues, RowGroup
from policies.janus.loops import array


def normalize(x_RH: Tensor, weight_H: Tensor, epsilon: float, dtype: torch.dtype) -> Tensor:
    """[R, H] with a root mean square of 1 in each row, times the weight, as LlamaRMSNorm; in `dtype`."""
    out_RH = x_RH.new_empty(x_RH.shape, dtype=dtype)
    kernels.normalize(array(x_RH), array(weight_H), np.float32(epsilon), array(out_RH))
    return out_RH


def gate(gate_up_RI: Tensor) -> Tensor:
    """[R, I] silu(gate) * up from gates and ups [R, 2 I]."""
    out_RI = gate_up_RI.new_empty(len(gate_up_RI), gate_up_RI.shape[1] // 2)
    kernels.gate(array(gate_up_RI), array(out_RI))
    return out_RI


def draw(logits_RV: Tensor, temperature: float, uniforms_R: Tensor) -> tuple[Tensor, Tensor]:
    """Ids [R] drawn by the inverse CDF of softmax(logits / temperature), and their log-probs [R].

    The uniform numbers in [0, 1) are float64.
    """
    ids_R = torch.empty(len(logits_RV), dtype=torch.long)
    logprobs_R = torch.empty(len(logits_RV))
    arrays = [array(x) for x in (uniforms_R, ids_R, logprobs_R)]
    kernels.draw(array(logits_RV), np.float32(temperature), *arrays)
    return ids_R, logprobs_R


class RowAttention:
    """Attention of groups of rows: each row reads the slots that it has filled, and no others.

    Args:
        groups: whose rows follow one another.
        heads: of the decoder.
    """

    def __init__(self, groups: Sequence[RowGroup], heads: Heads) -> None:
        self._heads, self._scale = heads, np.float32(heads.width**-0.5)
        self._groups = [_Group(group, heads.kv_heads) for group in groups]

    def __call__(
        self,
        layer: int,
        qkv_RH: Tensor,
        cos_RD: Tensor,
        sin_RD: Tensor,
        *,
        slot: int,
        rows: NDArray[np.int64] | slice,
    ) -> Tensor:
        """[R, G * Q * D] for projected tokens [R, (G * Q + 2 * G) * D], which go to `slot`.

        They belong to all rows of all groups, or to some rows of the only group.
        """
        width = self._heads.kv_heads * self._heads.queries * self._heads.width
        out_RH = qkv_RH.new_empty(len(qkv_RH), width, dtype=self._heads.dtype)
        tokens, cos, sin, out = (array(x) for x in (qkv_RH.to(self._heads.dtype), cos_RD, sin_RD, out_RH))
        first = 0
        for group in self._groups:
            of_group = group.rows[rows]
            part = slice(first, first + len(of_group))
            kernels.attend(
                tokens[part],
                cos[part],
                sin[part],
                self._scale,
                of_group,
                slot,
                group.tails[layer],
                group.prefixes[layer],
                group.filled,
                out[part],
            )
            first += len(of_group)
        return out_RH


class _Group:
    """The cache of a group of rows as arrays [G, P, S, D] that share its memory."""

    def __init__(self, group: RowGroup, kv_heads: int) -> None:
        self.rows = np.arange(group.rows)
        self.tails = _by_layer(group.tail, kv_heads)
        prefixes = [_by_layer(prefix, kv_heads) for prefix in group.prefixes]
        self.prefixes = list(zip(*prefixes, strict=True))
        self.filled = tuple(_filled(prefix, group.rows) for prefix in group.prefixes)


def _by_layer(cache: KeyValues, kv_heads: int) -> list[tuple[NDArray[Any], NDArray[Any]]]:
    layers = []
    for keys, values in zip(cache.keys, cache.values, strict=True):
        layers.append((array(keys.unflatten(0, (kv_heads, -1))), array(values.unflatten(0, (kv_heads, -1)))))
    return layers


def _filled(prefix: KeyValues, rows: int) -> NDArray[np.int64]:
    if prefix.filled_R is None:
        return np.full(rows, prefix.slots)
    return prefix.filled_R.numpy()
