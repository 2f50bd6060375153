"""The optimizer of a run: AdamW with warm-up and cosine decay on accelerate, in one or several processes.

Several ranks (started by `harness.stages.ranks`) hold the same weights. Each takes its share of a step's
items, and `step` sums their gradients. Losses are normalized by the counts of the whole step, so the
update equals that of one process up to rounding. There is no DistributedDataParallel wrapper: log-probs
are not one call of one module's forward, and a sum in `step` communicates once per update, however many
micro-batches it has.

A checkpoint holds trained weights, optimizer, schedule, random states and the step. An interrupted run
that resumes from it ends with the same weights, bit for bit. One atomic move replaces the checkpoint.
"""

from __future__ import annotations

import math
import sys
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

BUCKET_BYTES = 2**28  # gradients are summed in buckets of this size; the sum needs as much again


class Learner:
    """Trains the parameters of `module` that require a gradient, for `steps` optimizer steps.

    Args:
        blocks: layers whose weights, gradients and optimizer state are sharded over the processes (FSDP).
            The model must use each of them only by calling it. One process shards nothing.

    Raises:
        ValueError: no parameter requires a gradient, or one that does is not float32.
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
            # adapters start at random, differently on each process
            broadcast([parameter.data for parameter in module.parameters() if parameter.requires_grad])
            shards.shard(blocks, device)
        self._named = {
            name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad
        }
        if not self._named:
            raise ValueError("no parameter requires a gradient: load the policy with trainable=True")
        for name, parameter in self._named.items():
            if parameter.dtype != torch.float32:
                raise ValueError(
                    f"trained weights must be float32, but {name} is {parameter.dtype}: small steps would be"
                    " rounded away. Use policies.weights=float32, or train adapters (lora)"
                )
        self._unsharded, sharded = shards.split(self._named.values())
        groups = [{"params": group} for group in (self._unsharded, sharded) if group]
        optimizer = torch.optim.AdamW(
            groups, lr=learning_rate, betas=(0.9, 0.95), weight_decay=weight_decay, fused=True
        )
        self._optimizer = self._accelerator.prepare(optimizer)
        self._peak_rate, self._steps, self._warmup_steps = learning_rate, steps, warmup_steps
        self._done = 0
        self._max_grad_norm = max_grad_norm

    @property
    def processes(self) -> int:
        """The number of processes that train this model."""
        return self._accelerator.num_processes

    @property
    def rank(self) -> int:
        """The number of this process, from 0."""
        return self._accelerator.process_index

    @property
    def learning_rate(self) -> float:
        """The rate of the next step."""
        if self._done < self._warmup_steps:
            return self._peak_rate * (self._done + 1) / self._warmup_steps
        decay_step = self._done - self._warmup_steps
        decay_steps = max(self._steps - self._warmup_steps, 1)
        return self._peak_rate * 0.5 * (1 + math.cos(math.pi * decay_step / decay_steps))

    def share(self, items: Sequence[Item]) -> list[Item]:
        """This process's share of a step's items: the `rank`-th of equally long runs.

        Raises:
            ValueError: the number of processes does not divide the number of items.
        """
        size, rest = divmod(len(items), self.processes)
        if rest:
            raise ValueError(
                f"{len(items)} items of a step cannot be divided among resources.processes={self.processes}"
            )
        return list(items[self.rank * size : (self.rank + 1) * size])

    def total(self, value: Number) -> Number:
        """The sum over all processes, element by element for a tensor. An int stays an int."""
        if self.processes == 1:
            return value
        if isinstance(value, Tensor):
            return self._accelerator.reduce(value, "sum")
        dtype = torch.int64 if isinstance(value, int) else torch.float64
        tensor = torch.tensor(value, dtype=dtype, device=self._accelerator.device)
        return type(value)(self._accelerator.reduce(tensor, "sum").item())

    def collect(self, items: Sequence[Item]) -> list[Item]:
        """The items of all processes in the order of ranks. They are pickled: pass small values."""
        return gather_object(list(items)) if self.processes > 1 else list(items)

    def backward(self, loss: Tensor) -> None:
        """Adds the gradient of `loss` to the gradients of this process."""
        self._accelerator.backward(loss)

    def step(self) -> float:
        """Sums the gradients of all processes, clips them, updates the weights and clears the gradients.

        Returns:
            The gradient norm before clipping.

        Raises:
            ValueError: the gradient is not finite. The weights are unchanged.
        """
        if self.processes > 1:
            self._sum_gradients()
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

    def _sum_gradients(self) -> None:
        """Replaces the gradients of unsharded weights by their sums; FSDP summed those of sharded layers.

        A weight without a gradient on every process keeps none, as with one process. A weight with a
        gradient on some processes counts as zeros on the others.
        """
        has_gradient = [parameter.grad is not None for parameter in self._unsharded]
        counts = self.total(torch.tensor(has_gradient, device=self._accelerator.device).int())
        used = [parameter for parameter, count in zip(self._unsharded, counts.tolist(), strict=True) if count]
        for bucket in _buckets(used):
            gradients = []
            for parameter in bucket:
                gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                gradients.append(gradient.flatten())
            summed = self._accelerator.reduce(torch.cat(gradients), "sum")
            pieces = summed.split([parameter.numel() for parameter in bucket])
            for parameter, piece in zip(bucket, pieces, strict=True):
                parameter.grad = piece.view_as(parameter)

    def finish(self) -> None:
        """Gathers sharded layers: rank 0 then holds all weights, ready to save; the other ranks hold none.

        Raises:
            ValueError: the processes no longer hold the same weights.
        """
        if self.processes > 1:
            self._check_equal()
            shards.unshard(self._module, keep=self.rank == 0)

    def save(self, file: Path, step: int, *, last: bool = False) -> None:
        """Writes one checkpoint for all processes.

        Args:
            file: replaced as a whole.
            step: the number of steps done.
            last: training has ended, and only its result is still to be written. Where the disk has no room
                for optimizer and weights, the weights alone may still fit, so this gives a warning.

        Raises:
            ValueError: the processes no longer hold the same weights.
            OSError: the file cannot be written, and this is not the last checkpoint.
            RuntimeError: likewise, as torch says it.
        """
        if self.processes > 1:
            self._check_equal()
        keep = self.rank == 0
        weights = shards.gather(self._named, keep=keep)
        optimizer = {
            name: shards.gather(self._optimizer.state[parameter], keep=keep)
            for name, parameter in self._named.items()
        }
        state = {
            "step": step,
            "updates": self._done,
            "weights": weights,
            "optimizer": optimizer,
            "random": self.collect([torch.get_rng_state()]),
        }
        if self.rank == 0:
            try:
                _write(state, file)
            except (OSError, RuntimeError) as error:
                if not last:
                    raise
                print(f"warning: {file} was not written: {error}", file=sys.stderr)

    @torch.no_grad()
    def restore(self, file: Path) -> int:
        """Loads a checkpoint and returns the number of steps done; 0 if there is none.

        The number of processes may differ from that at the save.

        Raises:
            ValueError: the file is not a checkpoint of this training.
        """
        if not file.is_file():
            return 0
        advice = f"cannot resume from {file}: delete it, and the stage starts from the beginning"
        try:
            state = torch.load(file, weights_only=True, map_location="cpu", mmap=True)
        except OSError:
            raise
        except Exception as error:  # a damaged pickle may raise anything
            raise ValueError(f"{advice} ({type(error).__name__}: {error})") from error
        if state["weights"].keys() != self._named.keys():
            raise ValueError(f"{advice} (it holds other weights than this training)")
        for name, parameter in self._named.items():
            parameter.copy_(shards.shard_like(parameter, state["weights"][name]))
        self._restore_optimizer(state["optimizer"])
        self._done = state["updates"]
        torch.set_rng_state(state["random"][min(self.rank, len(state["random"]) - 1)].cpu())
        return int(state["step"])

    def _restore_optimizer(self, by_name: dict[str, dict[str, Tensor]]) -> None:
        """Loads the optimizer state, which a checkpoint keeps by the weights' names.

        Torch numbers an optimizer's weights in the order of its groups, which depends on the sharding.
        """
        names = {parameter: name for name, parameter in self._named.items()}
        parameters = []
        for group in self._optimizer.param_groups:
            parameters += group["params"]
        state_by_number = {}
        for number, parameter in enumerate(parameters):
            if state := by_name[names[parameter]]:
                state_by_number[number] = {
                    key: shards.shard_like(parameter, value) for key, value in state.items()
                }
        self._optimizer.load_state_dict({**self._optimizer.state_dict(), "state": state_by_number})

    def _check_equal(self) -> None:
        """Compares the unsharded trained weights of all processes by checksums of their bits.

        Raises:
            ValueError: they differ.
        """
        if self._unsharded:
            sums = torch.stack([_checksum(parameter) for parameter in self._unsharded])
        else:
            sums = torch.zeros(0, dtype=torch.int64)
        highest = self._accelerator.reduce(sums, "max")
        lowest = -self._accelerator.reduce(-sums, "max")
        differs = highest != lowest
        if differs.any():
            names = {parameter: name for name, parameter in self._named.items()}
            first = names[self._unsharded[int(differs.nonzero()[0])]]
            raise ValueError(
                f"the processes no longer hold the same weights, first {first}: the numbers of this run since"
                " its last checkpoint are worthless. Run the same command again to resume from it. If this"
                " happens again, suspect the hardware, or a policy whose steps differ between processes"
            )


def _checksum(parameter: Tensor) -> Tensor:
    integers = {8: torch.int64, 4: torch.int32, 2: torch.int16, 1: torch.int8}[parameter.element_size()]
    return parameter.detach().contiguous().view(integers).sum(dtype=torch.int64)


def _buckets(parameters: Sequence[Tensor]) -> Iterable[list[Tensor]]:
    """Runs of weights of one dtype, each of at most `BUCKET_BYTES` (or a single larger weight)."""
    bucket: list[Tensor] = []
    bucket_bytes = 0
    for parameter in sorted(parameters, key=lambda parameter: str(parameter.dtype)):
        parameter_bytes = parameter.numel() * parameter.element_size()
        full = bucket_bytes + parameter_bytes > BUCKET_BYTES
        if bucket and (bucket[0].dtype != parameter.dtype or full):
            yield bucket
            bucket, bucket_bytes = [], 0
        bucket.append(parameter)
        bucket_bytes += parameter_bytes
    if bucket:
        yield bucket


def _write(state: dict[str, Any], file: Path) -> None:
    with writing(file, durable=True) as new, new.open("wb") as stream:
        torch.save(state, stream)
