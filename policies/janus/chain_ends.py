"""When the chains of a batch have all ended, asked without waiting for a GPU at every step."""

from __future__ import annotations

from collections import deque

import torch
from torch import Tensor

AHEAD = 4  # steps that the host may run ahead of a GPU while it waits for chains to end


class ChainEnds:
    """Whether all chains have ended. A GPU answers some steps later, unless the host shall `wait` for it."""

    def __init__(self, *, wait: bool) -> None:
        self._wait = wait
        self._pending: deque[tuple[Tensor, torch.cuda.Event]] = deque()

    def all(self, ended_B: Tensor) -> bool:
        """Whether every row [B] of this step, or of an earlier one, has ended."""
        if self._wait or not ended_B.is_cuda:
            return bool(ended_B.all())
        answer = torch.empty((), dtype=torch.bool, pin_memory=True)
        answer.copy_(ended_B.all(), non_blocking=True)
        event = torch.cuda.Event()
        event.record()
        self._pending.append((answer, event))
        if len(self._pending) > AHEAD:
            self._pending[0][1].synchronize()
        while self._pending and self._pending[0][1].query():
            if self._pending.popleft()[0]:
                return True
        return False
