"""What a step of GRPO costs under its variants, and with rewards beside the drawing: the same step, by turns.

The learning rate is 0 and the step's number stays, so all variants draw and score the same samples with the
same weights. A round runs every variant once, and a ratio compares steps of one round, so that a machine that
slows down slows both.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from omegaconf import OmegaConf

from harness.composition import groups
from harness.composition.components import make
from harness.reward.function import RewardFunction
from harness.stages.program import SilentWorkspace
from harness.trainers import grpo_settings, order
from harness.trainers.frozen_start import load
from harness.trainers.grpo import Grpo, more_prompts
from harness.trainers.learner import Learner
from harness.trainers.step_rewards import StepRewards
from harness.types import Prompt, Sample, Sampling, Score

ROUNDS = 7  # after one that is not counted
UNCHANGED, CONTROL = "unchanged", "unchanged, again"
AFTERWARDS = "rewards afterwards"
LATENCY_S, AT_ONCE = 0.5, 16  # of the scripted judge: seconds of an answer, and samples that share them
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
    """Seconds of a step under a variant, and of the step that it is compared with, in the same rounds."""

    variant: str
    seconds: Sequence[float]
    base: str
    base_seconds: Sequence[float]

    def __str__(self) -> str:
        ratios = [own / other for own, other in zip(self.seconds, self.base_seconds, strict=True)]
        spread = f"{min(ratios):.3f} to {max(ratios):.3f}, {len(ratios)} rounds"
        seconds = f"{statistics.median(self.seconds):.3g} s"
        return f"{self.variant:<28} {seconds:>8}  {statistics.median(ratios):.3f} x {self.base} ({spread})"


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


def variant_costs(
    settings: Mapping[str, Any], start: Path, variants: Mapping[str, GrpoSettings]
) -> list[Cost]:
    """Times the first step of a run under each of the variants, in `ROUNDS` rounds.

    Args:
        settings: of the stage `grpo`.
        start: the folder of the stage that the run starts from.
        variants: name -> settings under `grpo`; `UNCHANGED` is one of them.
    """
    first = FirstStep(settings, start)
    function = RewardFunction(**make(settings["rewards"]))
    runs = {name: first.run(changed, function, StepRewards) for name, changed in variants.items()}
    return first.costs(runs, UNCHANGED)


def waiting_costs(settings: Mapping[str, Any], start: Path) -> list[Cost]:
    """Times the first step of a run whose judge lets it wait: rewards after the drawing, and beside it.

    Args:
        settings: of the stage `grpo`, with a `rollout_batch`.
        start: the folder of the stage that the run starts from.
    """
    first = FirstStep(settings, start)
    function = RewardFunction(total="judge", components={"judge": ScriptedJudge()})
    kinds = {AFTERWARDS: _Afterwards, "rewards beside drawing": StepRewards}
    runs = {name: first.run(settings["grpo"], function, kind) for name, kind in kinds.items()}
    return first.costs(runs, AFTERWARDS)


class ScriptedJudge:
    """Stands for a judge behind HTTP: it sleeps for every `AT_ONCE` samples, and gives them a score of no
    meaning.
    """

    name = "judge"
    scope: Literal["chain", "image", "both"] = "image"

    def __call__(self, samples: Sequence[Sample]) -> list[Score]:
        time.sleep(LATENCY_S * math.ceil(len(samples) / AT_ONCE))
        return [Score(value=sum(sample.tokens.image) % 11 / 10) for sample in samples]


class _Afterwards(StepRewards):
    """The rewards of all parts, given after the last one is drawn."""

    def begin(self, samples: Sequence[Sample]) -> None:
        self._samples += samples


class FirstStep:
    """The first step of a run of GRPO, which can be repeated.

    Args:
        settings: of the stage `grpo`.
        start: the folder of the stage that the run starts from.
    """

    def __init__(self, settings: Mapping[str, Any], start: Path) -> None:
        grpo, self._seed = settings["grpo"], settings["seed"]
        self._policy, self._reference = load(
            settings["policy"], grpo["lora"], start / "checkpoint", self._seed
        )
        self._learner = Learner(
            self._policy.module,
            learning_rate=0.0,
            steps=1,
            warmup_steps=0,
            weight_decay=grpo["weight_decay"],
            max_grad_norm=grpo["max_grad_norm"],
        )
        self._work, self._sampling = SilentWorkspace(start), Sampling(**settings["rollout"])
        self._prompts = make(settings["benchmark"]).prompts("train")
        self._count = grpo["prompts"]

    def run(self, grpo: GrpoSettings, function: RewardFunction, kind: type[StepRewards]) -> Grpo:
        """The run under these settings, with this reward, given in this way."""
        rewards = kind(self._work, function, self._policy, self._sampling, grpo["micro_batch"])
        return Grpo(
            self._policy,
            self._reference,
            rewards,
            function,
            self._learner,
            self._sampling,
            grpo,
            self._seed,
            partial(more_prompts, self._prompts, self._count, self._seed),
        )

    def costs(self, runs: Mapping[str, Grpo], base: str) -> list[Cost]:
        """Times the step of every run in `ROUNDS` rounds; all are compared with the run `base`."""
        seconds = _by_turns(runs, order.batch(self._prompts, self._count, 0, self._seed))
        return [
            Cost(variant=name, seconds=own, base=base, base_seconds=seconds[base])
            for name, own in seconds.items()
        ]


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
