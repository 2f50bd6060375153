"""One optimisation: AdamW with warm-up and cosine decay on accelerate, alone or as several processes.

Processes that train together (`harness.stages.ranks` starts them) hold the same weights, each takes its
share of a step's items, and `step` adds their gradients up: with losses normalised by the counts of the
whole step the update is that of one process, up to rounding. There is no DistributedDataParallel wrapper,
because log-probs are not one call of one module's forward, and because adding up in `step` communicates
once per update, however many micro-batches it has.

A checkpoint holds trained weights, optimizer, schedule, random states and the step, so that a run that
was interrupted goes on to the same weights, bit for bit. It is replaced in one atomic move.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast, gather_object
from torch import Tensor

from harness.files import writing
from harness.trainers import shards

Item = TypeVar("Item")
Number = TypeVar("Number", float, int, Tensor)

BUCKET_BYTES = 2**28  # of gradients added up at once: what the addition needs beside them


class Learner:
    """Trains the parameters of `module` that require a gradient for `steps` optimizer steps.

    Args:
        blocks: layers whose weights, gradients and optimizer state are cut among the processes (FSDP). Each must be
            used through its own call alone. Without effect on one process.
    """

    def __init__(
        self,
        module: torch.nn.Module,
        *,
        learning_rate: float,
        steps: int,
        warmup_steps: int,
        weight_decay: float,
        max_grad_norm: float,
        blocks: Iterable[torch.nn.Module] = (),
    ) -> None:
        device = next(module.parameters()).device
        self._accelerator = Accelerator(cpu=device.type == "cpu")
        self._module = module
        if self.processes > 1:
            broadcast(
                [parameter.data for parameter in module.parameters() if parameter.requires_grad]
            )  # adapters start at random
            shards.cut(blocks, device)
        self._named = {
            name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad
        }
        if not self._named:
            raise ValueError("no parameter requires a gradient: load the policy with trainable=True")
        if rounded := [name for name, parameter in self._named.items() if parameter.dtype != torch.float32]:
            raise ValueError(
                f"weights that are trained must be float32, and {rounded[0]} is {self._named[rounded[0]].dtype}: small steps would be"
                " rounded away. Take policies.weights=float32, or train adapters (grpo.lora)"
            )
        cut, self._whole = shards.apart(self._named.values())
        groups = [{"params": group} for group in (self._whole, cut) if group]
        optimizer = torch.optim.AdamW(
            groups, lr=learning_rate, betas=(0.9, 0.95), weight_decay=weight_decay, fused=True
        )
        self._optimizer = self._accelerator.prepare(optimizer)
        self._peak_rate, self._steps, self._warmup_steps = learning_rate, steps, warmup_steps
        self._done = 0
        self._max_grad_norm = max_grad_norm

    @property
    def processes(self) -> int:
        """How many train together."""
        return self._accelerator.num_processes

    @property
    def rank(self) -> int:
        """Which of them this is, from 0."""
        return self._accelerator.process_index

    @property
    def learning_rate(self) -> float:
        """Of the next step."""
        if self._done < self._warmup_steps:
            return self._peak_rate * (self._done + 1) / self._warmup_steps
        return (
            self._peak_rate
            * 0.5
            * (
                1
                + math.cos(
                    math.pi * (self._done - self._warmup_steps) / max(self._steps - self._warmup_steps, 1)
                )
            )
        )

    def share(self, items: Sequence[Item]) -> list[Item]:
        """This process's part of a step's items: a run of them, the parts of all processes in order.

        Raises:
            ValueError: they cannot be shared out evenly.
        """
        size, rest = divmod(len(items), self.processes)
        if rest:
            raise ValueError(
                f"{len(items)} items of a step cannot be shared out among resources.processes={self.processes}"
            )
        return list(items[self.rank * size : (self.rank + 1) * size])

    def total(self, value: Number) -> Number:
        """The sum over all processes: of a tensor by element, of a number as that kind of number."""
        if self.processes == 1:
            return value
        if isinstance(value, Tensor):
            return self._accelerator.reduce(value, "sum")
        dtype = torch.int64 if isinstance(value, int) else torch.float64
        return type(value)(
            self._accelerator.reduce(
                torch.tensor(value, dtype=dtype, device=self._accelerator.device), "sum"
            ).item()
        )

    def collect(self, items: Sequence[Item]) -> list[Item]:
        """The items of all processes, by rank; small plain values."""
        return gather_object(list(items)) if self.processes > 1 else list(items)

    def backward(self, loss: Tensor) -> None:
        """Adds to this process's gradients."""
        self._accelerator.backward(loss)

    def step(self) -> float:
        """Adds up the gradients of all processes, clips, updates, clears them; returns the gradient norm before clipping.

        Raises:
            ValueError: the gradient is not finite; the weights are left as they were.
        """
        if self.processes > 1:
            self._add_up()
        norm = float(self._accelerator.clip_grad_norm_(list(self._named.values()), self._max_grad_norm))
        if not math.isfinite(norm):
            raise ValueError(
                f"the gradient norm is {norm}: training has diverged; lower learning_rate or max_grad_norm"
            )
        for group in self._optimizer.param_groups:
            group["lr"] = self.learning_rate
        self._optimizer.step()
        self._optimizer.zero_grad()
        self._done += 1
        return norm

    def _add_up(self) -> None:
        """Replaces the gradients of whole weights by their sums; those of cut layers were added up on the way back.

        A weight that no process has a gradient for keeps none, as in one process; one that only others have a
        gradient for takes part with zeros.
        """
        used = self.total(
            torch.tensor(
                [parameter.grad is not None for parameter in self._whole], device=self._accelerator.device
            ).int()
        )
        taking_part = [
            parameter for parameter, count in zip(self._whole, used.tolist(), strict=True) if count
        ]
        for bucket in _buckets(taking_part):
            flat = torch.cat(
                [(torch.zeros_like(one) if one.grad is None else one.grad).flatten() for one in bucket]
            )
            parts = self._accelerator.reduce(flat, "sum").split([one.numel() for one in bucket])
            for parameter, part in zip(bucket, parts, strict=True):
                parameter.grad = part.view_as(parameter)

    def finish(self) -> None:
        """Puts cut layers together again: rank 0 then holds all weights whole, to be saved, and the others none of those.

        Raises:
            ValueError: the processes no longer hold the same weights.
        """
        if self.processes > 1:
            self._check_equal()
            shards.put_together(self._module, keep=self.rank == 0)

    def save(self, file: Path, step: int) -> None:
        """Writes the checkpoint, once for all processes.

        Raises:
            ValueError: the processes no longer hold the same weights.
        """
        if self.processes > 1:
            self._check_equal()
        state = {
            "step": step,
            "updates": self._done,
            "weights": shards.whole(self._named, keep=self.rank == 0),
            "optimizer": {
                name: shards.whole(self._optimizer.state[parameter], keep=self.rank == 0)
                for name, parameter in self._named.items()
            },
            "random": self.collect([torch.get_rng_state()]),
        }
        if self.rank == 0:
            _write(state, file)

    @torch.no_grad()
    def restore(self, file: Path) -> int:
        """Steps done so far: 0 where there is no checkpoint. The number of processes may be another than at the save.

        Raises:
            ValueError: the file cannot be read as a checkpoint of this training.
        """
        if not file.is_file():
            return 0
        advice = f"{file} cannot be gone on from: delete it, and the stage starts over"
        try:
            state = torch.load(file, weights_only=True, map_location="cpu", mmap=True)
        except OSError:
            raise
        except Exception as error:  # a damaged pickle may raise anything
            raise ValueError(f"{advice} ({type(error).__name__}: {error})") from error
        if state["weights"].keys() != self._named.keys():
            raise ValueError(f"{advice} (it trains other weights)")
        for name, parameter in self._named.items():
            parameter.copy_(shards.like(parameter, state["weights"][name]))
        self._restore_optimizer(state["optimizer"])
        self._done = state["updates"]
        torch.set_rng_state(state["random"][min(self.rank, len(state["random"]) - 1)].cpu())
        return int(state["step"])

    def _restore_optimizer(self, by_name: dict[str, dict[str, Tensor]]) -> None:
        """Torch numbers an optimizer's weights in the order of its groups, which depends on what is cut; a checkpoint names them."""
        names = {parameter: name for name, parameter in self._named.items()}
        order = [names[parameter] for group in self._optimizer.param_groups for parameter in group["params"]]
        numbered = {
            number: {key: shards.like(self._named[name], value) for key, value in by_name[name].items()}
            for number, name in enumerate(order)
            if by_name[name]
        }
        self._optimizer.load_state_dict({**self._optimizer.state_dict(), "state": numbered})

    def _check_equal(self) -> None:
        """Compares the whole trained weights of all processes by a checksum of their bits.

        Raises:
            ValueError: they differ.
        """
        sums = (
            torch.stack([_checksum(parameter) for parameter in self._whole])
            if self._whole
            else torch.zeros(0, dtype=torch.int64)
        )
        highest = self._accelerator.reduce(sums, "max")
        lowest = -self._accelerator.reduce(-sums, "max")
        if (highest != lowest).any():
            names = {parameter: name for name, parameter in self._named.items()}
            first = names[self._whole[int((highest != lowest).nonzero()[0])]]
            raise ValueError(
                f"the processes that train together no longer hold the same weights, first {first}: this run's numbers are worthless"
                " since the last checkpoint. Run the same command again to go on from there; if it happens again, suspect the hardware"
                " or a policy whose training steps differ between processes"
            )


def _checksum(parameter: Tensor) -> Tensor:
    integers = {8: torch.int64, 4: torch.int32, 2: torch.int16, 1: torch.int8}[parameter.element_size()]
    return parameter.detach().contiguous().view(integers).sum(dtype=torch.int64)


def _buckets(parameters: Sequence[Tensor]) -> Iterable[list[Tensor]]:
    """Runs of weights of one dtype, each of at most `BUCKET_BYTES` (or a single larger one)."""
    bucket: list[Tensor] = []
    size = 0
    for parameter in sorted(parameters, key=lambda one: str(one.dtype)):
        bytes_ = parameter.numel() * parameter.element_size()
        if bucket and (bucket[0].dtype != parameter.dtype or size + bytes_ > BUCKET_BYTES):
            yield bucket
            bucket, size = [], 0
        bucket.append(parameter)
        size += bytes_
    if bucket:
        yield bucket


def _write(state: dict[str, Any], file: Path) -> None:
    with writing(file, durable=True) as new, new.open("wb") as stream:
        torch.save(state, stream)
