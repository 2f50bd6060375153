"""One GRPO step with a model of real size, timed by part, with its memory beside the estimate of `doctor`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import command
from harness.composition.components import make
from harness.gpu.clock import Clock, peak_gb, reset_peak
from harness.protocols import Measured
from harness.reward.function import RewardFunction
from harness.stages.program import SilentWorkspace
from harness.study import memory
from harness.study.memory_items import CUDA_BYTES
from harness.types import Reward, Sample, Sampling

if TYPE_CHECKING:
    from torch import Tensor

    from harness.trainers.grpo import Grpo
    from harness.types import Prompt

PARTS = ("rollout", "rewards", "reference pass", "policy forward", "policy backward", "optimizer")


def measure(words: Callable[[], Sequence[str]], device: str) -> Iterator[Measured]:
    """The seconds of the first step of the run that the words describe, in all and of each of `PARTS`.

    With `grpo.rollout_batch` rewards may be computed beside rollouts; the parts then add up to more than the
    step. Work outside the parts is small: advantages, and copies of numbers.
    """
    chosen = command.choose(list(words()))
    stage = chosen.trained
    start = command.obtain(stage.inputs["start"], chosen.store)
    reset_peak()
    clock = Clock()
    run, prompts = _run(dict(stage.settings), start / "checkpoint", clock)
    with clock.time("step"):
        metrics = run.step(prompts, 0)
    gap = metrics["sampler_gap"]
    assert gap is not None
    grpo, rollout = stage.settings["grpo"], stage.settings["rollout"]
    samples = grpo["prompts"] * grpo["samples"]
    setting = (
        f"{grpo['prompts']} prompts x {grpo['samples']} samples, micro_batch {grpo['micro_batch']},"
        f" rollout_batch {grpo['rollout_batch']}, max_chain_tokens {rollout['max_chain_tokens']}"
    )
    yield Measured(name="whole step", value=clock.seconds["step"], unit="s", note=setting)
    for part in PARTS:
        yield Measured(name=part, value=clock.seconds[part], unit="s")
    yield Measured(name="speed", value=samples / clock.seconds["step"], unit="samples/s")
    yield Measured(
        name="gap of sampler and replay",
        value=gap,
        unit="nats/token",
        at_most=grpo["gap_tolerance"],
    )
    yield Measured(name="peak memory", value=peak_gb(), unit="GB")
    estimate = memory.estimate(stage, chosen.cell.config, chosen.store, processes=1, gpu=device == "cuda")
    if estimate is not None:
        yield Measured(
            name="memory by the estimate of doctor",
            value=estimate.peak / memory.GB,
            unit="GB",
            note=f"{estimate.worst}; with {memory.gigabytes(CUDA_BYTES)} for CUDA itself on a GPU",
        )


def _run(settings: dict[str, Any], start: Path, clock: Clock) -> tuple[Grpo, list[Prompt]]:
    """The run as `harness.trainers.grpo.train` builds it, with its parts timed, and the prompts of step 0."""
    import torch

    from harness.trainers import order
    from harness.trainers.frozen_start import load
    from harness.trainers.grpo import Grpo, more_prompts
    from harness.trainers.learner import Learner
    from harness.trainers.step_rewards import StepRewards

    class TimedRewards(RewardFunction):
        def __call__(self, samples: Sequence[Sample]) -> list[Reward]:
            # the results are on the CPU, and another thread may record a graph, which a wait would break
            with clock.time("rewards", waits=False):
                return super().__call__(samples)

    class TimedLearner(Learner):
        def backward(self, loss: Tensor) -> None:
            with clock.time("policy backward"):
                super().backward(loss)

        def step(self) -> float:
            with clock.time("optimizer"):
                return super().step()

    def passes() -> str:
        return "policy forward" if torch.is_grad_enabled() else "reference pass"

    grpo, seed = settings["grpo"], settings["seed"]
    policy, reference = load(settings["policy"], grpo["lora"], start, seed)
    vars(policy)["rollout"] = clock.timed(lambda: "rollout", policy.rollout)
    vars(policy)["logprobs"] = clock.timed(passes, policy.logprobs)
    function, sampling = TimedRewards(**make(settings["rewards"])), Sampling(**settings["rollout"])
    learner = TimedLearner(
        policy.module,
        learning_rate=grpo["learning_rate"],
        steps=grpo["steps"] * grpo["inner_epochs"],
        warmup_steps=grpo["warmup_steps"],
        weight_decay=grpo["weight_decay"],
        max_grad_norm=grpo["max_grad_norm"],
    )
    prompts = make(settings["benchmark"]).prompts("train")
    more = partial(more_prompts, prompts, grpo["prompts"], seed)
    rewards = StepRewards(SilentWorkspace(start), function, policy, sampling, grpo["micro_batch"])
    run = Grpo(policy, reference, rewards, function, learner, sampling, grpo, seed, more)
    return run, order.batch(prompts, grpo["prompts"], 0, seed)
