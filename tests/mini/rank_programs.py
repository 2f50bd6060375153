"""Stage programs for tests of processes that train together: each is run by every rank."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from torch import nn

from harness.composition.components import make
from harness.trainers import grpo
from harness.trainers.learner import Learner
from harness.types import Sampling

RATES = {"learning_rate": 0.1, "steps": 4, "warmup_steps": 0, "weight_decay": 0.1, "max_grad_norm": 1.0}


class Net(nn.Module):
    """Two blocks to cut, a layer that stays whole, and one that is never used."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Linear(6, 6) for _ in range(2))
        self.head = nn.Linear(6, 1)
        self.unused = nn.Linear(2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = torch.tanh(block(x))
        return self.head(x)


def descend(work: Any, settings: dict[str, Any], inputs: dict[str, Path]) -> None:
    """Four steps on eight rows, a checkpoint after the second, and again from there; then the same
    with blocks cut.

    Every rank starts elsewhere, and writes what it ends with.
    """
    rank = int(os.environ.get("RANK", 0))
    runs = {}
    for cut in settings["cut"]:
        for again in (False, True):
            torch.manual_seed(7 + rank + 100 * again)
            runs[f"{'cut' if cut else 'whole'}{' again' * again}"] = _descend(
                work.folder / f"training-{cut}.pt", cut
            )
    torch.save(runs, work.folder / f"rank{rank}.pt")


def _descend(saved: Path, cut: bool) -> dict[str, Any]:
    net = Net()
    learner = Learner(net, **RATES, blocks=net.blocks if cut else ())
    losses, norms = [], []
    for step in range(learner.restore(saved), 4):
        rows = learner.share(list(torch.linspace(-1, 1, 48).view(8, 6) + step))
        loss = sum(net(row[None]).square().sum() / 8 for row in rows)
        learner.backward(loss)
        losses.append(learner.total(loss.item()))
        norms.append(learner.step())
        if step == 1:
            learner.save(saved, 2)
    counts = [
        learner.total(len(rows)),
        learner.total(torch.ones(2, dtype=torch.int64)).tolist(),
        learner.collect([learner.rank, "x"]),
    ]
    learner.finish()
    return {"weights": net.state_dict(), "losses": losses, "norms": norms, "counts": counts}


def keep_weights(work: Any, settings: dict[str, Any], inputs: dict[str, Path]) -> None:
    """GRPO as it is; every rank also writes the weights it ends with."""

    class Kept(Learner):
        def finish(self) -> None:
            super().finish()
            torch.save(
                {name: value.detach() for name, value in self._named.items()},
                work.folder / f"rank{self.rank}.pt",
            )

    grpo.Learner = Kept
    try:
        grpo.train(work, settings, inputs)
    finally:
        grpo.Learner = Learner


def imitate(work: Any, settings: dict[str, Any], inputs: dict[str, Path]) -> None:
    """Supervised steps of a real policy whose layers are cut, as `sft.fsdp` has it: loss over the
    tokens of the whole step.
    """
    policy = make(settings["policy"]).load(inputs["start"] / "checkpoint", trainable=True)
    examples = policy.encode(make(settings["benchmark"]).records(0, 8))
    learner = Learner(policy.module, **{**RATES, "learning_rate": 1e-3}, blocks=policy.blocks())
    for step in range(3):
        scored = policy.logprobs(learner.share(examples), Sampling())
        count = learner.total(int(scored.action_BT.sum()))
        loss = -scored.values_BT[scored.action_BT].sum() / count
        learner.backward(loss)
        work.progress(step + 1, 3, {"loss": learner.total(loss.item()), "grad_norm": learner.step()})
    learner.finish()
    if learner.rank == 0:
        policy.save(work.folder / "checkpoint")


def drift(work: Any, settings: dict[str, Any], inputs: dict[str, Path]) -> None:
    """One rank's weights are moved behind the learner's back."""
    net = Net()
    learner = Learner(net, **RATES)
    if learner.rank == 1:
        net.head.bias.data += 1e-6
    learner.save(work.folder / "training.pt", 1)
