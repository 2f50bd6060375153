"""The loop body of a rollout: embeddings of one token a row to logits, at the next slot.

`Sliced` looks at the slots that are filled. `Replayed` does the same work at fixed shapes, so that a GPU can
record it once for a range of slots and play it again without a launch per kernel.

Shapes: R rows, H hidden, V vocabulary or image codes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from policies.janus.cache import Slot, Stream, mask
from policies.janus.decoder import Decoder

Head = Callable[[Tensor], Tensor]


class Sliced:
    """Steps over the filled slots only; `first_R` are the rows' positions at step 0."""

    def __init__(self, decoder: Decoder, head: Head, streams: Sequence[Stream], first_R: Tensor) -> None:
        self._decoder, self._head, self._streams, self._first_R = decoder, head, streams, first_R

    def __call__(self, embeds_RH: Tensor, step: int) -> Tensor:
        """Logits [R, V] after the tokens of a step, which are written to slot `step`."""
        return self._head(
            self._decoder.step(embeds_RH, self._first_R + step, self._streams, Slot(step, step + 1))
        )


class Replayed:
    """Steps over whole buckets of slots, those not filled yet hidden; on a GPU one CUDA graph per bucket.

    A bucket's first step runs as it is and warms the kernels up, its second is recorded. Graphs belong to
    one rollout: they hold addresses of its cache and weights. The recording was not run on a GPU when this
    was written; its shapes and masks are tested against `Sliced` without one.
    """

    bucket = 128

    def __init__(self, decoder: Decoder, head: Head, streams: Sequence[Stream], first_R: Tensor) -> None:
        self._decoder, self._head, self._streams, self._first_R = decoder, head, streams, first_R
        self._slots = streams[0].tail.slots
        self._place = torch.zeros(1, dtype=torch.long, device=first_R.device)
        self._embeds_RH: Tensor | None = None
        self._graphs: dict[int, tuple[torch.cuda.CUDAGraph, Tensor] | None] = {}
        self._pool = torch.cuda.graph_pool_handle() if first_R.is_cuda else None

    def __call__(self, embeds_RH: Tensor, step: int) -> Tensor:
        """As `Sliced`; the logits are valid until the next call."""
        if self._embeds_RH is None:
            self._embeds_RH = torch.empty_like(embeds_RH)
        self._embeds_RH.copy_(embeds_RH)
        self._place.fill_(step)
        seen = min((step // self.bucket + 1) * self.bucket, self._slots)
        if not embeds_RH.is_cuda or seen not in self._graphs:
            self._graphs[seen] = None
            return self._run(seen)
        recorded = self._graphs[seen] or self._record(seen)
        recorded[0].replay()
        return recorded[1]

    def _run(self, seen: int) -> Tensor:
        assert self._embeds_RH is not None
        later = torch.arange(seen, device=self._place.device) > self._place
        slot = Slot(self._place, seen, mask(later[None]))
        return self._head(
            self._decoder.step(self._embeds_RH, self._first_R + self._place, self._streams, slot)
        )

    def _record(self, seen: int) -> tuple[torch.cuda.CUDAGraph, Tensor]:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            logits = self._run(seen)
        self._graphs[seen] = graph, logits
        return graph, logits
