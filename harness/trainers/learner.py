"""One optimisation: AdamW with warm-up and cosine decay on accelerate, and its checkpoints.

A checkpoint holds trained weights, optimizer, schedule, random state and the step, so that a run that
was interrupted goes on to the same weights, bit for bit. It is replaced in one atomic move.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor


class Learner:
    """Trains the parameters of `module` that require a gradient for `steps` optimizer steps."""

    def __init__(
        self,
        module: torch.nn.Module,
        *,
        learning_rate: float,
        steps: int,
        warmup_steps: int,
        weight_decay: float,
        max_grad_norm: float,
    ) -> None:
        device = next(module.parameters()).device
        self._accelerator = Accelerator(cpu=device.type == "cpu")
        self._named = {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
        if not self._named:
            raise ValueError("no parameter requires a gradient: load the policy with trainable=True")
        optimizer = torch.optim.AdamW(self._named.values(), lr=learning_rate, betas=(0.9, 0.95), weight_decay=weight_decay, fused=True)

        def factor(step: int) -> float:
            if step < warmup_steps:
                return (step + 1) / warmup_steps
            return 0.5 * (1 + math.cos(math.pi * (step - warmup_steps) / max(steps - warmup_steps, 1)))

        self._optimizer = self._accelerator.prepare(optimizer)
        self._schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        self._max_grad_norm = max_grad_norm

    @property
    def learning_rate(self) -> float:
        return float(self._schedule.get_last_lr()[0])

    def backward(self, loss: Tensor) -> None:
        self._accelerator.backward(loss)

    def step(self) -> float:
        """Clips, updates, clears the gradients; returns the gradient norm before clipping.

        Raises:
            ValueError: the gradient is not finite; the weights are left as they were.
        """
        norm = float(self._accelerator.clip_grad_norm_(list(self._named.values()), self._max_grad_norm))
        if not math.isfinite(norm):
            raise ValueError(f"the gradient norm is {norm}: training has diverged; lower learning_rate or max_grad_norm")
        self._optimizer.step()
        self._schedule.step()
        self._optimizer.zero_grad()
        return norm

    def save(self, file: Path, step: int) -> None:
        state = {
            "step": step,
            "weights": self._named,
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
            "random": torch.get_rng_state(),
        }
        partial = file.with_suffix(".tmp")
        with partial.open("wb") as stream:
            torch.save(state, stream)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(file)

    @torch.no_grad()
    def restore(self, file: Path) -> int:
        """Steps done so far: 0 where there is no checkpoint.

        Raises:
            ValueError: the file cannot be read as a checkpoint of this training.
        """
        if not file.is_file():
            return 0
        advice = f"{file} cannot be gone on from: delete it, and the stage starts over"
        try:
            state = torch.load(file, weights_only=True, map_location=next(iter(self._named.values())).device)
        except OSError:
            raise
        except Exception as error:  # a damaged pickle may raise anything
            raise ValueError(f"{advice} ({type(error).__name__}: {error})") from error
        if state["weights"].keys() != self._named.keys():
            raise ValueError(f"{advice} (it trains other weights)")
        for name, parameter in self._named.items():
            parameter.copy_(state["weights"][name])
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])
        torch.set_rng_state(state["random"].cpu())
        return int(state["step"])
