"""Fully sharded training (torch's FSDP2) of single layers: weights, gradients and optimizer state cut among the processes.

A cut layer holds its part as a DTensor, puts its weights together for each forward and backward pass of its
own, and adds its gradients up on the way back. What is not cut stays whole on every process. Weights keep
their dtype in between: low precision is the policy's business (autocast), so that the numbers stay those of
one process.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn import Parameter


def cut(blocks: Iterable[torch.nn.Module], device: torch.device) -> None:
    """Cuts every layer among all processes; each is an FSDP root, as no common parent's forward is called."""
    layers = list(blocks)
    if not layers:
        return
    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    for layer in layers:
        part = fully_shard(layer, mesh=mesh, reshard_after_forward=True)
        part.set_gradient_divide_factor(1.0)  # sums, as the gradients of whole weights
        part.set_force_sum_reduction_for_comms(True)  # gloo knows no other


def apart(parameters: Iterable[Parameter]) -> tuple[list[Parameter], list[Parameter]]:
    """Cut and whole ones: one optimizer call cannot take both."""
    every = list(parameters)
    return [one for one in every if isinstance(one, DTensor)], [
        one for one in every if not isinstance(one, DTensor)
    ]


def whole(tensors: Mapping[str, Any], *, keep: bool) -> dict[str, Any]:
    """The same with every cut tensor put together, by all processes, and held in main memory by those that `keep` it."""
    return {
        name: _together(value, keep) if isinstance(value, DTensor) else value
        for name, value in tensors.items()
    }


def like(parameter: Tensor, value: Tensor) -> Tensor:
    """A whole tensor cut as `parameter` is; as it is where that is whole, or where the value is a single number."""
    if isinstance(parameter, DTensor) and value.shape == parameter.shape:
        return distribute_tensor(value.to(parameter.device), parameter.device_mesh, parameter.placements)
    return value


@torch.no_grad()
def put_together(module: torch.nn.Module, *, keep: bool) -> None:
    """Replaces cut parameters by whole ones in main memory, on processes that `keep` them, and by empty ones elsewhere."""
    for layer in module.modules():
        for name, parameter in list(layer.named_parameters(recurse=False)):
            if isinstance(parameter, DTensor):
                setattr(
                    layer, name, Parameter(_together(parameter, keep), requires_grad=parameter.requires_grad)
                )


def _together(tensor: DTensor, keep: bool) -> Tensor:
    found = tensor.full_tensor()
    return found.cpu() if keep else found.new_empty(0)
