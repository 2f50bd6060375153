"""What a step of GRPO costs under its variants: the same step, by turns under the settings of each.

The learning rate is 0 and the step's number stays, so all variants draw and score the same samples with the
same weights. A round runs every variant once, and a ratio compares steps of one round, so that a machine that
slows down slows both.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from harness.composition import groups
from harness.composition.components import make
from harness.reward.function import RewardFunction
from harness.stages.program import SilentWorkspace
from harness.trainers import grpo_settings, order
from harness.trainers.frozen_start import load
from harness.trainers.grpo import Grpo, more_prompts
from harness.trainers.learner import Learner
from harness.trainers.rollouts import judged
from harness.types import Prompt, Sampling

ROUNDS = 7  # after one that is not counted
UNCHANGED, CONTROL = "unchanged", "unchanged, again"
CHANGES = (  # of settings under `grpo`, one per variant
    ("advantage", "gdpo"),
    ("credit", "causal"),
    ("credit", "split"),
    ("aggregate", "stage"),
    ("token_weights", "guidance"),
    ("kl_weight", 0),
)

GrpoSettings = dict[str, Any]  # those under `grpo`


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Seconds of a step under a variant, and of the step unchanged, in the same rounds."""

    variant: str
    seconds: Sequence[float]
    unchanged: Sequence[float]

    def __str__(self) -> str:
        ratios = [own / other for own, other in zip(self.seconds, self.unchanged, strict=True)]
        spread = f"{min(ratios):.3f} to {max(ratios):.3f}, {len(ratios)} rounds"
        seconds = f"{statistics.median(self.seconds):.3g} s"
        return f"{self.variant:<28} {seconds:>8}  {statistics.median(ratios):.3f} x unchanged ({spread})"


def choose_variants(settings: Mapping[str, Any]) -> tuple[dict[str, GrpoSettings], dict[str, str]]:
    """The variants that can act in a cell, with their settings under `grpo`; for the others, why they cannot.

    Args:
        settings: of the stage `grpo`.
    """
    unchanged = settings["grpo"]
    able: dict[str, GrpoSettings] = {UNCHANGED: unchanged, CONTROL: unchanged}
    refused: dict[str, str] = {}
    for key, value in CHANGES:
        is_option = key in groups.options()
        name = f"{key}={value}" if is_option else f"grpo.{key}={value}"
        changed = {**unchanged, key: _option(key, value) if is_option else value}
        try:
            grpo_settings.check(changed)
            grpo_settings.check_together(changed, settings["rollout"], settings["rewards"])
        except ValueError as error:
            refused[name] = str(error)
        else:
            able[name] = changed
    return able, refused


def _option(group: str, name: Any) -> Any:
    return OmegaConf.to_container(OmegaConf.load(groups.options()[group][name]))


def costs(settings: Mapping[str, Any], start: Path, variants: Mapping[str, GrpoSettings]) -> list[Cost]:
    """Times the first step of a run under each of the variants, in `ROUNDS` rounds.

    Args:
        settings: of the stage `grpo`.
        start: the folder of the stage that the run starts from.
        variants: name -> settings under `grpo`; `UNCHANGED` is one of them.
    """
    grpo, seed = settings["grpo"], settings["seed"]
    policy, reference = load(settings["policy"], grpo["lora"], start / "checkpoint", seed)
    learner = Learner(
        policy.module,
        learning_rate=0.0,
        steps=1,
        warmup_steps=0,
        weight_decay=grpo["weight_decay"],
        max_grad_norm=grpo["max_grad_norm"],
    )
    function, sampling = RewardFunction(**make(settings["rewards"])), Sampling(**settings["rollout"])
    rewards = judged(SilentWorkspace(start), function, policy, sampling, grpo["micro_batch"])
    prompts = make(settings["benchmark"]).prompts("train")
    more = partial(more_prompts, prompts, grpo["prompts"], seed)
    runs = {
        name: Grpo(policy, reference, rewards, function, learner, sampling, changed, seed, more)
        for name, changed in variants.items()
    }
    seconds = _by_turns(runs, order.batch(prompts, grpo["prompts"], 0, seed))
    return [Cost(variant=name, seconds=own, unchanged=seconds[UNCHANGED]) for name, own in seconds.items()]


def _by_turns(runs: Mapping[str, Grpo], prompts: list[Prompt]) -> dict[str, list[float]]:
    """Seconds of step 0 of every run by round; each round begins with another run than the one before."""
    names = list(runs)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(ROUNDS + 1):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            began = time.perf_counter()
            runs[name].step(prompts, 0)
            if number > 0:
                seconds[name].append(time.perf_counter() - began)
    return seconds
