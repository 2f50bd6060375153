"""Log-probs of chosen ids from hidden states, through an output head, with bounded memory.

Logits are the largest tensors of a training step (Janus-Pro's vocabulary is 102,400). They are computed for
some positions at a time, and again in the backward pass, so memory does not grow with the number of
positions. If all positions fit at once, their logits are computed once and kept.

Shapes: K rows of one distribution (conditional, unconditional), N positions, H hidden.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from policies.janus.draw import chosen_logprob, guide

LOGITS = 2**25  # logits at a time: 128 MiB in float32; the backward pass holds a few copies


def logprobs(
    head: Callable[[Tensor], Tensor],
    vocabulary: int,
    states_KNH: Tensor,
    ids_N: Tensor,
    *,
    guidance: float,
    temperature: float,
) -> Tensor:
    """[N] log-probs in float32 of `ids_N` under softmax(logits / temperature), guided if K is 2.

    Args:
        head: hidden states [..., H] to logits [..., vocabulary].
        vocabulary: the number of logits per state.
        states_KNH: the states that predict the ids.
        ids_N: the ids.
        guidance: the weight of conditional over unconditional logits.
        temperature: 0 (greedy) counts as 1.
    """
    size = max(1, LOGITS // (vocabulary * len(states_KNH)))
    if len(ids_N) <= size:
        return _score(head, states_KNH, ids_N, guidance, temperature)
    parts = zip(states_KNH.split(size, dim=1), ids_N.split(size), strict=True)
    # nothing here is random; a non-reentrant checkpoint also works if only the head's weights need a gradient
    scores = []
    for states, ids in parts:
        arguments = (head, states, ids, guidance, temperature)
        scores.append(checkpoint(_score, *arguments, use_reentrant=False, preserve_rng_state=False))
    return torch.cat(scores)


def _score(
    head: Callable[[Tensor], Tensor], states_KNH: Tensor, ids_N: Tensor, guidance: float, temperature: float
) -> Tensor:
    return chosen_logprob(guide(head(states_KNH.flatten(0, 1)), guidance), ids_N, temperature)
