"""Fully sharded training of single layers (torch's FSDP2).

Weights, gradients and optimizer state of these layers are sharded over the processes, as DTensors. A layer
gathers its weights for each of its forward and backward passes, and sums its gradients in the backward
pass. All other weights stay whole on every process. Weights keep their dtype: the policy uses autocast for
low precision, so the numbers stay those of one process.
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


def shard(blocks: Iterable[torch.nn.Module], device: torch.device) -> None:
    """Shards every layer over all processes. Each is an FSDP root: no common parent's forward is called."""
    layers = list(blocks)
    if not layers:
        return
    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    for layer in layers:
        sharded = fully_shard(layer, mesh=mesh, reshard_after_forward=True)
        sharded.set_gradient_divide_factor(1.0)  # sums, as for unsharded weights
        sharded.set_force_sum_reduction_for_comms(True)  # gloo supports no other


def split(parameters: Iterable[Parameter]) -> tuple[list[Parameter], list[Parameter]]:
    """Unsharded and sharded parameters: one optimizer call cannot take both."""
    every = list(parameters)
    sharded: list[Parameter] = [parameter for parameter in every if isinstance(parameter, DTensor)]
    unsharded = [parameter for parameter in every if not isinstance(parameter, DTensor)]
    return unsharded, sharded


def gather(tensors: Mapping[str, Any], *, keep: bool) -> dict[str, Any]:
    """The same values with sharded tensors gathered, in main memory; empty on processes without `keep`.

    All processes must call this together.
    """
    return {
        name: _gathered(value, keep) if isinstance(value, DTensor) else value
        for name, value in tensors.items()
    }


def shard_like(parameter: Tensor, value: Tensor) -> Tensor:
    """`value` sharded as `parameter`; unchanged if `parameter` is unsharded or `value` is a single number."""
    if isinstance(parameter, DTensor) and value.shape == parameter.shape:
        return distribute_tensor(value.to(parameter.device), parameter.device_mesh, parameter.placements)
    return value


@torch.no_grad()
def unshard(module: torch.nn.Module, *, keep: bool) -> None:
    """Replaces sharded parameters by gathered ones in main memory, or by empty ones without `keep`."""
    for layer in module.modules():
        for name, parameter in list(layer.named_parameters(recurse=False)):
            if isinstance(parameter, DTensor):
                gathered = Parameter(_gathered(parameter, keep), requires_grad=parameter.requires_grad)
                setattr(layer, name, gathered)


def _gathered(tensor: DTensor, keep: bool) -> Tensor:
    full = tensor.full_tensor()
    return full.cpu() if keep else full.new_empty(0)
