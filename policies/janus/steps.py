"""The loop body of a rollout: embeddings of one token per row to logits, at the next slot.

`Compiled` is for CPUs. `Replayed` computes the same at fixed shapes, so that a GPU can record a step once for
a range of slots and replay it without one launch per kernel.

Shapes: R rows, H hidden, V vocabulary or image codes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from policies.janus.batch_attention import BatchAttention, Slot, mask
from policies.janus.cache import RowGroup
from policies.janus.compiled import RowAttention
from policies.janus.decoder import Decoder
from policies.janus.draw import ALL, Rows

Head = Callable[[Tensor], Tensor]


class Compiled:
    """Steps over the filled slots only; `first_R` are the rows' positions at step 0."""

    def __init__(self, decoder: Decoder, head: Head, groups: Sequence[RowGroup], first_R: Tensor) -> None:
        self._decoder, self._head, self._first_R = decoder, head, first_R
        self._attention = RowAttention(groups, decoder.heads)

    def __call__(self, embeds_RH: Tensor, step: int, rows: Rows = ALL) -> Tensor:
        """Logits [R, V] after the tokens of a step, which are written to slot `step`.

        Args:
            embeds_RH: embedded tokens of `rows`.
            step: the number of the step.
            rows: all; or some, where there is one group.
        """
        numbers = rows if isinstance(rows, slice) else rows.numpy()
        attention = partial(self._attention, slot=step, rows=numbers)
        return self._head(self._decoder.step(embeds_RH, self._first_R[rows] + step, attention))

    def unended(self, ended_B: Tensor) -> Rows:
        """The rows of one group that the next step has to compute."""
        return (~ended_B).nonzero()[:, 0]


class Replayed:
    """Steps over whole buckets of slots, with unfilled slots hidden; on a GPU one CUDA graph per bucket.

    The first step of a bucket runs unrecorded and warms up the kernels; the second is recorded. Graphs
    belong to one rollout: they hold addresses of its cache and weights. Recording had not been run on a GPU
    when this was written; its shapes and masks are tested against `Compiled` without one.
    """

    bucket = 128

    def __init__(self, decoder: Decoder, head: Head, groups: Sequence[RowGroup], first_R: Tensor) -> None:
        self._decoder, self._head, self._first_R = decoder, head, first_R
        self._attention = BatchAttention(groups, decoder.heads)
        self._slots = groups[0].tail.slots
        self._slot = torch.zeros(1, dtype=torch.long, device=first_R.device)
        self._embeds_RH: Tensor | None = None
        self._graphs: dict[int, tuple[torch.cuda.CUDAGraph, Tensor] | None] = {}
        self._pool = torch.cuda.graph_pool_handle() if first_R.is_cuda else None

    def __call__(self, embeds_RH: Tensor, step: int, rows: Rows = ALL) -> Tensor:
        """As in `Compiled`, for all rows; the logits are valid until the next call."""
        if self._embeds_RH is None:
            self._embeds_RH = torch.empty_like(embeds_RH)
        self._embeds_RH.copy_(embeds_RH)
        self._slot.fill_(step)
        visible = min((step // self.bucket + 1) * self.bucket, self._slots)
        if not embeds_RH.is_cuda or visible not in self._graphs:
            self._graphs[visible] = None
            return self._run(visible)
        graph, logits = self._graphs[visible] or self._record(visible)
        graph.replay()
        return logits

    def unended(self, ended_B: Tensor) -> Rows:
        """All: a recorded step always computes the same rows."""
        return ALL

    def _run(self, visible: int) -> Tensor:
        assert self._embeds_RH is not None
        unfilled_S = torch.arange(visible, device=self._slot.device) > self._slot
        attention = partial(self._attention, slot=Slot(self._slot, visible, mask(unfilled_S[None])))
        return self._head(self._decoder.step(self._embeds_RH, self._first_R + self._slot, attention))

    def _record(self, visible: int) -> tuple[torch.cuda.CUDAGraph, Tensor]:
        graph = torch.cuda.CUDAGraph()
        # experts that reward the part before this one may use the GPU in another thread
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            logits = self._run(visible)
        self._graphs[visible] = graph, logits
        return graph, logits
