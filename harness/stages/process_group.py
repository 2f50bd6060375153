"""A `torch.distributed` group of the ranks of a job, on the network interface that joins them."""

from __future__ import annotations

import ipaddress
import os
import re
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from harness.processes import ask

VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
NEVER = timedelta(days=365)  # a rank may wait long for a judge; dead ranks are found by other means
CONNECT = timedelta(minutes=10)  # ranks of a job do not start at the same second
LOCALHOST = "127.0.0.1"
INTERFACE = "GLOO_SOCKET_IFNAME"
ADDRESS = "address"  # in the store: that of the last rank


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a process is among the ranks of a job: torch.distributed's environment variables.

    `master` is the host of rank 0, and `port` that of its store there; 0: any free one.
    """

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    local_world: int = 1
    master: str = LOCALHOST
    port: int = 0

    @classmethod
    def of_environment(cls) -> Place | None:
        """The place that the variables name; None where they are not all set.

        Raises:
            ValueError: one of them is no number.
        """
        if not os.environ.keys() >= set(VARIABLES):
            return None
        *numbers, master, port = (os.environ[name] for name in VARIABLES)
        rank, world, local_rank, local_world = map(int, numbers)
        return cls(
            rank=rank,
            world=world,
            local_rank=local_rank,
            local_world=local_world,
            master=master,
            port=int(port),
        )

    def variables(self) -> dict[str, str]:
        """The environment variables of this place."""
        values = (self.rank, self.world, self.local_rank, self.local_world, self.master, self.port)
        return dict(zip(VARIABLES, map(str, values), strict=True))


def reachable(host: str) -> str:
    """The host's name, or the address that Slurm knows where the name cannot be resolved."""
    with suppress(OSError):
        socket.getaddrinfo(host, None)
        return host
    answer = ask(["scontrol", "show", "node", host])
    found = re.search(r"NodeAddr=(\S+)", answer.output) if answer is not None else None
    return found[1] if found else host


def connect(place: Place, *, joins: bool = False) -> Any:
    """The store of rank 0: made by rank 0, and joined by the others.

    Every thread needs a connection of its own. With `joins`, also rank 0 joins the store that is there.

    Raises:
        RuntimeError: rank 0 cannot be reached, or the port is taken.
    """
    from torch.distributed import TCPStore

    makes = place.rank == 0 and not joins
    store = TCPStore(
        place.master, place.port, place.world, is_master=makes, wait_for_workers=False, timeout=CONNECT
    )
    store.set_timeout(NEVER)
    if place.rank == place.world - 1 and not joins:
        store.set(ADDRESS, _address_towards(place.master))
    return store


@contextmanager
def group(place: Place, store: Any, name: str) -> Iterator[None]:
    """Sets up the process group, and the variables that accelerate reads, while the block runs.

    `name` is another one for every group that uses the store.
    """
    import torch
    from accelerate.state import AcceleratorState

    before = dict(os.environ)
    os.environ.update(place.variables())
    cuda = torch.cuda.is_available()
    if cuda:  # Slurm may show every task its own GPU only
        device = place.local_rank % torch.cuda.device_count()
        os.environ["LOCAL_RANK"] = str(device)
        torch.cuda.set_device(device)
    if INTERFACE not in os.environ and (interface := _interface(place, store)):
        os.environ[INTERFACE] = interface
    # the state may hold the process count of an earlier stage
    AcceleratorState._reset_state(reset_partial_state=True)
    torch.distributed.init_process_group(
        "cpu:gloo,cuda:nccl" if cuda else "gloo",
        store=torch.distributed.PrefixStore(name, store),
        rank=place.rank,
        world_size=place.world,
        timeout=NEVER,
    )
    ended_well = False
    try:
        yield
        ended_well = True
    finally:
        if ended_well or not cuda:  # NCCL may wait for dead ranks; after a failure this process ends anyway
            torch.distributed.destroy_process_group()
        AcceleratorState._reset_state(reset_partial_state=True)
        os.environ.clear()
        os.environ.update(before)


def highest(value: int) -> int:
    """The highest value of all ranks of the group, which must ask together. Does not import torch."""
    torch = sys.modules.get("torch")
    if torch is None or not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return value
    values = torch.tensor([value])  # on the CPU, also where there are GPUs
    torch.distributed.all_reduce(values, torch.distributed.ReduceOp.MAX)
    return int(values.item())


def _interface(place: Place, store: Any) -> str | None:
    """The interface that leads to other nodes; within one node, the one that leads to the master.

    On its own node, the name of the master may mean the loopback interface.
    """
    import psutil

    other = place.master if place.rank >= place.local_world else store.get(ADDRESS).decode()
    address = _address_towards(other)
    if ipaddress.ip_address(address).is_loopback and ":" not in address:
        address = LOCALHOST  # any other of the network 127.0.0.0/8 belongs to the same interface
    for name, addresses in psutil.net_if_addrs().items():
        if any(one.address.partition("%")[0] == address for one in addresses):
            return str(name)
    return None


def _address_towards(host: str) -> str:
    """The address of this machine on the way to a host. Nothing is sent."""
    family, kind, _, _, target = socket.getaddrinfo(host, 9, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind) as way:
        way.connect(target)
        return str(way.getsockname()[0])
