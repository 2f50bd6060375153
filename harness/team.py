"""The processes that make a stage together (its ranks), as the stage's program sees them.

A program may run in one process without torch. All ranks must call these functions in the same order.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

Value = TypeVar("Value")


def rank_and_size() -> tuple[int, int]:
    """Return the rank of this process, from 0, and the number of processes. Does not import torch."""
    torch = sys.modules.get("torch")
    if torch is None or not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return 0, 1
    return torch.distributed.get_rank(), torch.distributed.get_world_size()


def barrier() -> None:
    """Return once every process has called it."""
    if rank_and_size()[1] > 1:
        import torch

        # On the CPU: torch's own barrier would want a device of every backend.
        torch.distributed.all_reduce(torch.zeros(1))


def add_up(tensor: Tensor) -> None:
    """Replace a tensor by its sum over all processes, element by element."""
    if rank_and_size()[1] > 1:
        import torch

        torch.distributed.all_reduce(tensor)


def of_first(value: Value) -> Value:
    """Return the value that rank 0 gives. It is pickled: pass small ones."""
    values = [value]
    if rank_and_size()[1] > 1:
        import torch

        torch.distributed.broadcast_object_list(values)
    return values[0]


def collect(value: Value) -> list[Value]:
    """Return the values of all processes in the order of ranks; rank 0 alone gets them. They are pickled."""
    rank, size = rank_and_size()
    if size == 1:
        return [value]
    import torch

    values = [value] * size if rank == 0 else None
    torch.distributed.gather_object(value, values)
    return values or []
