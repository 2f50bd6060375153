"""Log-probs of chosen ids and measures of their distributions, from hidden states, with bounded memory.

Logits are the largest tensors of a training step (Janus-Pro's vocabulary is 102,400). They are computed for
some positions at a time, and again in the backward pass, so memory does not grow with the number of
positions. If all positions fit at once, their logits are computed once and kept.

Shapes: K rows of one distribution (conditional, unconditional), N positions, H hidden, V ids, M measures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function
from torch.utils.checkpoint import checkpoint

from policies.janus import training_kernels as kernels
from policies.janus.draw import chosen_logprob, guide, scale
from policies.janus.loops import array

LOGITS = 2**25  # logits at a time: 128 MiB in float32; the backward pass holds a few copies
MEASURES = ("entropy", "certainty", "contrast")


def logprobs(
    head: Callable[[Tensor], Tensor],
    vocabulary: int,
    states_KNH: Tensor,
    ids_N: Tensor,
    *,
    guidance: float,
    temperature: float,
    measures: Sequence[str] = (),
) -> tuple[Tensor, Tensor]:
    """[N] log-probs of `ids_N` under softmax(logits / temperature), guided if K is 2, and [M, N] measures.

    Both are in float32, and the measures have no gradient.

    Args:
        head: hidden states [..., H] to logits [..., vocabulary].
        vocabulary: the number of logits per state.
        states_KNH: the states that predict the ids.
        ids_N: the ids.
        guidance: the weight of conditional over unconditional logits.
        temperature: 0 (greedy) counts as 1.
        measures: names from `MEASURES` (`harness.types.TokenLogprobs` defines them). Contrast is 0 if K is 1.
    """
    size = max(1, LOGITS // (vocabulary * len(states_KNH)))
    if len(ids_N) <= size:
        return _score(head, states_KNH, ids_N, guidance, temperature, measures)
    parts = zip(states_KNH.split(size, dim=1), ids_N.split(size), strict=True)
    # nothing here is random; a non-reentrant checkpoint also works if only the head's weights need a gradient
    scores = []
    for states, ids in parts:
        arguments = (head, states, ids, guidance, temperature, measures)
        scores.append(checkpoint(_score, *arguments, use_reentrant=False, preserve_rng_state=False))
    values, measured = zip(*scores, strict=True)
    return torch.cat(values), torch.cat(measured, dim=1)


def _score(
    head: Callable[[Tensor], Tensor],
    states_KNH: Tensor,
    ids_N: Tensor,
    guidance: float,
    temperature: float,
    measures: Sequence[str],
) -> tuple[Tensor, Tensor]:
    logits = head(states_KNH.flatten(0, 1))
    values_N, measured = _choose(guide(logits, guidance), ids_N, temperature or 1.0, measures)
    # a recomputation ends where the log-probs have what their gradient needs, so that it skips what follows
    with torch.no_grad():
        if "contrast" in measures and len(states_KNH) == 2:
            measured["contrast"] = _contrast(logits, ids_N, temperature)
        measured_MN = values_N.new_zeros(len(measures), len(ids_N))
        for index, name in enumerate(measures):
            if name in measured:
                measured_MN[index] = measured[name]
    return values_N, measured_MN


def _choose(
    logits_NV: Tensor, ids_N: Tensor, temperature: float, measures: Sequence[str]
) -> tuple[Tensor, dict[str, Tensor]]:
    """[N] log-probs of ids, and [N] for each of `measures` that softmax(logits / temperature) defines."""
    if logits_NV.device.type == "cpu":
        values_N, entropy_N, certainty_N = _Choice.apply(logits_NV, ids_N, temperature)
        return values_N, {"entropy": entropy_N, "certainty": certainty_N}
    logprobs_NV = torch.log_softmax(scale(logits_NV, temperature), -1)
    measured = {}
    with torch.no_grad():
        if "entropy" in measures:
            measured["entropy"] = -logprobs_NV.exp().mul_(logprobs_NV).sum(-1)
        if "certainty" in measures:
            measured["certainty"] = -logprobs_NV.mean(-1) - math.log(logprobs_NV.shape[-1])
    return logprobs_NV.gather(-1, ids_N[:, None]).squeeze(-1), measured


class _Choice(Function):
    """Log-probs of ids, entropies and certainties [N] from logits [N, V] on a CPU, in float32."""

    @staticmethod
    def forward(ctx: Any, logits_NV: Tensor, ids_N: Tensor, temperature: float) -> tuple[Tensor, ...]:
        measures = tuple(torch.empty(3, len(ids_N)))
        arrays = [array(x) for x in measures]
        kernels.choose(array(logits_NV.contiguous()), np.float32(temperature), array(ids_N), *arrays)
        ctx.save_for_backward(logits_NV, ids_N, measures[0])
        ctx.temperature = temperature
        ctx.mark_non_differentiable(*measures[1:])
        return measures

    @staticmethod
    def backward(ctx: Any, of_values: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        logits_NV, ids_N, values_N = ctx.saved_tensors
        of_logits = torch.empty_like(logits_NV, memory_format=torch.contiguous_format)
        arrays = [array(x.contiguous()) for x in (ids_N, values_N, of_values)]
        logits, temperature = array(logits_NV.contiguous()), np.float32(ctx.temperature)
        kernels.choose_back(logits, temperature, *arrays, array(of_logits))
        return of_logits, None, None


def _contrast(logits: Tensor, ids_N: Tensor, temperature: float) -> Tensor:
    """[N] log-probs under the unconditional minus under the conditional rows, which come first."""
    conditional_N, unconditional_N = chosen_logprob(logits, ids_N.repeat(2), temperature).chunk(2)
    return unconditional_N - conditional_N
