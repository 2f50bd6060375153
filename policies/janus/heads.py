"""Log-probs of chosen ids from hidden states, through an output head, with bounded memory.

Logits are the largest tensors of a training step (Janus-Pro's vocabulary is 102,400). They are made for
some positions at a time and again in the backward pass, so that memory does not grow with the number of
positions; where all of them are few they are made once and kept.

Shapes: K rows that one distribution is made of (conditional, unconditional), N positions, H hidden.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from policies.janus.draw import chosen_logprob, guide

LOGITS = 2**25  # logits at a time: 128 MiB in float32, of which the backward pass holds a handful of copies


def logprobs(
    head: Callable[[Tensor], Tensor],
    vocabulary: int,
    states_KNH: Tensor,
    ids_N: Tensor,
    *,
    guidance: float,
    temperature: float,
) -> Tensor:
    """[N] log-probs in float32 of `ids_N` under softmax(logits / temperature), guided where K is 2.

    Args:
        head: hidden states [..., H] to logits [..., vocabulary].
        vocabulary: how many logits the head makes of a state.
        states_KNH: the states that predict the ids.
        ids_N: the ids.
        guidance: of conditional over unconditional logits.
        temperature: 0 (greedy) is scored as 1.
    """
    size = max(1, LOGITS // (vocabulary * len(states_KNH)))
    if len(ids_N) <= size:
        return _score(head, states_KNH, ids_N, guidance, temperature)
    parts = zip(states_KNH.split(size, dim=1), ids_N.split(size), strict=True)
    # nothing here is random, and a non-reentrant checkpoint also works where only the head's weights want a gradient
    scores = []
    for states, ids in parts:
        arguments = (head, states, ids, guidance, temperature)
        scores.append(checkpoint(_score, *arguments, use_reentrant=False, preserve_rng_state=False))
    return torch.cat(scores)


def _score(
    head: Callable[[Tensor], Tensor], states_KNH: Tensor, ids_N: Tensor, guidance: float, temperature: float
) -> Tensor:
    return chosen_logprob(guide(head(states_KNH.flatten(0, 1)), guidance), ids_N, temperature)
