"""Two processes with a GPU each, against one: the same gradient, and the tokens that they draw per second."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness import command
from harness.composition.components import make
from harness.files import write_text
from harness.gpu.clock import wait
from harness.protocols import Measured
from harness.seeds import derive
from harness.stages.program import SilentWorkspace
from harness.stages.ranks import ProgramCall, Ranks
from harness.types import Sample, Sampling

ROWS = 64  # samples of both processes together
CHAIN = 64  # tokens of a chain at most
DIFFERENCE = 1e-4  # of the gradients, relative: float32 sums in another order differ by about 1e-6
UNCLIPPED = 1e12  # a gradient norm that no gradient reaches
PROGRAM = "harness.gpu.pair.draw_and_differentiate"


def compare(words: Callable[[], Sequence[str]], work: Path, rows: int = ROWS) -> Iterator[Measured]:
    """The difference of the gradients of one and of two processes, and the speed of both.

    Args:
        words: of the command line that describes the run.
        work: a folder for the results of the processes.
        rows: samples that are drawn and scored, an even number.
    """
    import torch

    chosen = command.choose(list(words()))
    settings = {**chosen.trained.settings, "rows": rows}
    start = command.obtain(chosen.trained.inputs["start"], chosen.store)
    gradients, speeds = {}, {}
    for processes in (1, 2):
        folder = work / f"processes-{processes}"
        folder.mkdir(parents=True, exist_ok=True)
        _in_processes(processes, settings, start, folder)
        gradients[processes] = torch.load(folder / "gradient.pt", weights_only=True)
        speeds[processes] = json.loads((folder / "speed.json").read_text(encoding="utf-8"))
    one, two = gradients[1], gradients[2]
    yield Measured(
        name="relative difference of the gradients",
        value=float((one - two).norm() / one.norm()),
        at_most=DIFFERENCE,
        note=f"{one.numel():,} weights, {rows} samples",
    )
    for processes, tokens_s in speeds.items():
        yield Measured(
            name=f"rollout in {processes} process{'es' * (processes > 1)}", value=tokens_s, unit="tokens/s"
        )
    yield Measured(name="gain", value=speeds[2] / speeds[1], unit="x")


def _in_processes(processes: int, settings: dict[str, Any], start: Path, folder: Path) -> None:
    """Runs the program in this process, and in another one with `processes=2`."""
    call = ProgramCall(program=PROGRAM, settings=settings, inputs={"start": str(start)}, folder=str(folder))
    with closing(Ranks(processes)) as team, team.together(call) if processes > 1 else nullcontext():
        draw_and_differentiate(SilentWorkspace(folder), settings, {"start": start})


def draw_and_differentiate(work: Any, settings: dict[str, Any], inputs: dict[str, Path]) -> None:
    """Stage program: draws this process's rows and takes one optimizer step on their log-probs.

    Rank 0 writes the step's gradient and the speed of all processes. The rows are drawn in batches of one
    size and scored one by one, however many processes there are: their numbers are then equal.
    """
    import torch
    from torch.optim.optimizer import register_optimizer_step_pre_hook

    from harness.trainers.frozen_start import load
    from harness.trainers.learner import Learner

    grpo, seed, rows = settings["grpo"], settings["seed"], settings["rows"]
    policy, _ = load(settings["policy"], grpo["lora"], inputs["start"] / "checkpoint", seed)
    learner = Learner(
        policy.module, learning_rate=1e-6, steps=1, warmup_steps=0, weight_decay=0.0, max_grad_norm=UNCLIPPED
    )
    sampling = Sampling(**settings["rollout"])
    sampling = replace(sampling, max_chain_tokens=min(CHAIN, sampling.max_chain_tokens))
    every = make(settings["benchmark"]).prompts("train")
    share = learner.share(range(rows))
    parts = [share[first : first + rows // 2] for first in range(0, len(share), rows // 2)]

    def draw(part: Sequence[int]) -> list[Sample]:
        prompts = [every[row % len(every)] for row in part]
        return policy.rollout(prompts, [derive(seed, "pair", row) for row in part], sampling)

    draw(parts[0])  # the first one loads kernels
    wait()
    began = time.perf_counter()
    samples: list[Sample] = []
    for part in parts:
        samples += draw(part)
    wait()
    seconds = time.perf_counter() - began

    count = learner.total(sum(len(sample.logprobs) for sample in samples))
    for sample in samples:
        scored = policy.logprobs([sample.tokens], sampling)
        learner.backward(-scored.values_BT[scored.action_BT].sum() / count)
    gradients: list[torch.Tensor] = []

    def keep(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        for group in optimizer.param_groups:
            gradients.extend(one.grad.flatten().cpu() for one in group["params"] if one.grad is not None)

    hook = register_optimizer_step_pre_hook(keep)
    try:
        learner.step()
    finally:
        hook.remove()
    slowest = max(learner.collect([seconds]))
    if learner.rank == 0:
        torch.save(torch.cat(gradients), work.folder / "gradient.pt")
        write_text(work.folder / "speed.json", json.dumps(count / slowest))
